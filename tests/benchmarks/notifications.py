"""Does NOTIFY limit how fast jobs are added? Adds by many sessions at once, with it and without.

At commit PostgreSQL lets transactions that notify pass one after the other, and each waits for the disk.
`python tests/benchmarks/notifications.py --help`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.tables import TASK  # noqa: E402
from tests.support.folders import passable_folder  # noqa: E402
from trio_graphile import Client, Database, DatabaseOptions, JobClient, open_database  # noqa: E402
from trio_graphile.embedded import embedded_postgres  # noqa: E402

ADD_ONE = """
    select from graphile_worker.add_job($1::text, '{"n": 1}'::json)
"""
ADD_ONE_SILENTLY = """
    insert into graphile_worker._private_jobs (task_id, payload)
    select tasks.id, '{"n": 1}'::json
    from graphile_worker._private_tasks as tasks
    where tasks.identifier = $1::text
"""
ADD_HUNDRED = """
    select count(*)
    from graphile_worker.add_jobs(
      array(
        select row($1::text, '{"n": 1}'::json, null, null, null, null, null, null)::graphile_worker.job_spec
        from generate_series(1, 100)
      )
    )
"""
WAYS = {
    "one job a call, with its notification": (ADD_ONE, 1),
    "one job a call, written without": (ADD_ONE_SILENTLY, 1),
    "a hundred jobs a call, with one notification": (ADD_HUNDRED, 100),
}


async def rate(database: Database, sql: str, sessions: int, seconds: float) -> float:
    """Return how many calls a second so many sessions make at once."""
    calls = 0
    ends_at = time.perf_counter() + seconds

    async def add() -> None:
        nonlocal calls
        async with database.connection() as connection:
            while time.perf_counter() < ends_at:
                await connection.execute(sql, TASK)
                calls += 1

    async with trio.open_nursery() as nursery:
        for _ in range(sessions):
            nursery.start_soon(add)
    return calls / seconds


async def combined_rate(client: Client, tasks: int, seconds: float) -> float:
    """Return how many jobs a second so many Trio tasks add one by one, if the client combines them."""
    added = 0
    ends_at = time.perf_counter() + seconds

    async def add(combining: JobClient) -> None:
        nonlocal added
        while time.perf_counter() < ends_at:
            await combining.add_raw_job(TASK, {"n": 1})
            added += 1

    async with client.combining_adds() as combining, trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(add, combining)
    return added / seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each is measured")
    options = parser.parse_args()
    most = max(options.sessions)
    print("| jobs/s | " + " | ".join(f"{sessions} sessions" for sessions in options.sessions) + " |")
    print("|---|" + "--:|" * len(options.sessions))
    with passable_folder(Path.cwd()) as folder:  # on a disk, with PostgreSQL's own durability
        settings = {"max_connections": str(most + 20)}
        async with (
            embedded_postgres(folder / "postgres", settings=settings) as server,
            open_database(server.url, DatabaseOptions(pool_size=most)) as database,
        ):
            client = Client(database)
            await client.migrate()
            await client.add_raw_job(TASK)
            for way, (sql, jobs) in WAYS.items():
                rates = [
                    jobs * await rate(database, sql, sessions, options.seconds)
                    for sessions in options.sessions
                ]
                print_row(way, rates)
            rates = [await combined_rate(client, sessions, options.seconds) for sessions in options.sessions]
            print_row("one job a call, combined, by as many Trio tasks", rates)


def print_row(way: str, rates: Sequence[float]) -> None:
    """Print a row of the table."""
    print(f"| {way} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |", flush=True)


trio.run(main)
