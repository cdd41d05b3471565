"""How many pages of the table does each page and route of the admin read, at any size of it? And the CLI?

    python tests/benchmarks/admin.py --jobs 10000000

Fills a table with 60 tasks and 20,000 named queues, more than a quarter of it with one time, asks for
everything once, and prints the buffers that PostgreSQL touched for each request, hits and reads together.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.folders import passable_folder
from trio_graphile import Client, Database, DatabaseOptions, open_database
from trio_graphile.admin import Access, Admin, AdminOptions
from trio_graphile.embedded import embedded_postgres

_STEP = 1_000_000
_FILL = """
    insert into graphile_worker._private_jobs
      (task_id, payload, priority, run_at, attempts, max_attempts, last_error, job_queue_id)
    select
      1 + number % 60,
      json_build_object('n', number),
      (number % 3)::smallint,
      case
        when number % 7 < 2 then timestamptz '2026-01-01'
        else now() + (number % 200000 - 100000) * interval '1 second'
      end,
      case when number % 15 = 0 then 25 else number % 4 end,
      25,
      case when number % 15 = 0 then format('Error %s: no route to host %s', number % 9, number) end,
      case when number % 10 = 0 then 1 + number / 10 % 20000 end
    from generate_series($1::bigint, $2::bigint) as number
"""
_TASKS = """
    insert into graphile_worker._private_tasks (identifier)
    select format('task %s', number)
    from generate_series(1, 60) as number
"""
_QUEUES = """
    insert into graphile_worker._private_job_queues (queue_name)
    select format('queue %s', number)
    from generate_series(1, 20000) as number
"""
_INDEXES = """
    select classes.relname as name, pg_get_indexdef(classes.oid) as definition
    from pg_index as indexes
    join pg_class as classes on classes.oid = indexes.indexrelid
    where indexes.indrelid = 'graphile_worker._private_jobs'::regclass
      and not indexes.indisunique
"""
_TOUCHED = """
    select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint as buffers, count(*) as statements
    from pg_stat_statements
    where query not like '%pg_stat_statements%'
"""

PATHS = (
    "/",
    "/jobs",
    "/jobs?order=newest",
    "/jobs?order=next-run",
    "/jobs?order=latest-failure",
    "/jobs?search=nowhere%20to%20be%20found",
    "/jobs?identifier=task%207&state=ready",
    "/jobs?queue=queue%2077",
    "/jobs?state=locked",
    "/jobs/5000",
    "/failures",
    "/tasks",
    "/queues",
    "/workers",
    "/recurring",
    "/maintenance",
    "/api/overview",
    "/api/jobs",
    "/api/jobs?state=failed&order=latest-failure",
    "/api/jobs/5000",
    "/api/jobs/5000/payload",
    "/api/failures",
    "/api/tasks",
    "/api/queues",
    "/api/workers",
    "/api/crontabs",
    "/api/findings",
    "/api/history?span=day",
)


async def fill(database: Database, jobs: int) -> None:
    """Add the tasks, the queues and so many jobs; make the indexes afterwards, since that is faster."""
    await database.execute(_TASKS)
    await database.execute(_QUEUES)
    indexes = await database.fetch(_INDEXES)
    for index in indexes:
        await database.execute(f'drop index graphile_worker."{index["name"]}"')
    for first in range(1, jobs + 1, _STEP):
        await database.execute(_FILL, first, min(first + _STEP - 1, jobs))
        print(f"{min(first + _STEP - 1, jobs):,} jobs", file=sys.stderr)
    for index in indexes:
        await database.execute(index["definition"])
    await database.execute("vacuum (analyze)")


async def measured(database: Database, what: str, ask: Callable[[], Awaitable[object]]) -> None:
    """Ask once, and print what it took."""
    await database.execute("select pg_stat_statements_reset()")
    began = time.perf_counter()
    answer = await ask()
    seconds = time.perf_counter() - began
    row = await database.fetch_row(_TOUCHED)
    assert row is not None
    figures = f"{row['statements']} | {row['buffers']:,} | {seconds * 1e3:,.0f}"
    print(f"| {what} | {answer} | {figures} |", flush=True)


async def compare(database: Database) -> None:
    """Print a line for each route, then for what the command line does."""
    client = Client(database)
    admin = Admin(client, AdminOptions(authorize=_anybody))
    print("| what | answer | statements | buffers | ms |")
    print("|---|--:|--:|--:|--:|")
    async with trio.open_nursery() as nursery:
        await nursery.start(admin.run)
        transport = httpx2.ASGITransport(admin)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            for path in PATHS:

                async def ask(path: str = path) -> int:
                    return (await http.get(path)).status_code

                await measured(database, f"GET {path}", ask)
        nursery.cancel_scope.cancel()
    for name, call in (("stats", client.backlog), ("tasks", client.known_tasks), ("queues", client.queues)):

        async def ask_client(call: Callable[[], Awaitable[object]] = call) -> str:
            await call()
            return "-"

        await measured(database, f"trio-graphile {name}", ask_client)


async def _anybody(_request: object) -> Access:
    return Access(user="benchmark")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="how many jobs there are (1,000,000)")
    parser.add_argument("--directory", help="where the server keeps its temporary folder")
    options = parser.parse_args()
    settings = {"shared_preload_libraries": "pg_stat_statements", "fsync": "off", "max_wal_size": "8GB"}
    with passable_folder(options.directory) as folder:
        async with (
            embedded_postgres(folder / "postgres", settings=settings) as server,
            open_database(server.url, DatabaseOptions(statement_timeout=3_600.0)) as database,
        ):
            await Client(database).migrate()
            await database.execute("create extension pg_stat_statements")
            await fill(database, options.jobs)
            await compare(database)


if __name__ == "__main__":
    trio.run(main)
