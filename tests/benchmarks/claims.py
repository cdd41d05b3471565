"""What a claim costs the server, by the statement that claims, by what is in its way and by how many wait.

Processor time of the session's own process (Linux only), not time on a clock: that of others does not count.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TypeAlias

import attrs
import trio

from tests.benchmarks import tables
from tests.support.folders import passable_folder
from trio_graphile import Client, Connection, Database, DatabaseOptions, Job, open_database
from trio_graphile._database import held_rows
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile.embedded import PostgresServer, embedded_postgres

ME = "a worker"
LIMITS = (500, 24)
"""How many jobs are claimed at once: ahead, and for free slots only."""
_DAY = 86_400.0

Claim: TypeAlias = Callable[[Connection, str, list[str], int], Awaitable[list[Job]]]


@attrs.frozen
class Situation:
    """What stands in the way of the jobs that are claimed."""

    name: str
    prepare: Callable[[Database, int], Awaitable[None]]
    """Is called with the size of the crowd."""
    queues: int = 0
    """Over how many named queues the jobs are spread."""


async def nothing(_database: Database, _jobs: int) -> None: ...


async def foreign(database: Database, jobs: int) -> None:
    await tables.insert_crowd(database, "foreign", jobs)


SITUATIONS = [
    Situation("nothing in the way", nothing),
    Situation("a crowd in two locked queues", tables.insert_stuck),
    Situation("a crowd of foreign tasks", foreign),
    Situation("each job in a queue of its own", nothing, queues=1_000_000),
    Situation("the same, behind a crowd in two locked queues", tables.insert_stuck, queues=1_000_000),
]


async def statements(session: Connection, limit: int) -> dict[str, Claim]:
    """Return the claims that are worth a comparison here."""
    which = (await plain_claims.probe(session, [tables.TASK], limit))[0]
    if which is None:
        return {"whole": claims.get_jobs, "whole, wide": partial(claims.get_jobs, width=10)}
    return {"whole": claims.get_jobs, f"plain, {which}": partial(plain_claims.get_plain_jobs, which=which)}


async def measure(
    server: PostgresServer, situation: Situation, options: argparse.Namespace, limit: int
) -> dict[str, float]:
    """Return the us that a job's claim takes by each statement, in turn, and its completion."""
    async with _fresh_database(server) as database:
        await situation.prepare(database, options.crowd_jobs)
        if situation.queues:
            await tables.insert_queued(database, options.jobs, min(situation.queues, options.jobs))
        else:
            await tables.insert_jobs(database, options.jobs)
        await tables.settle(database)
        return await _measure(database, limit, options.jobs // limit)


async def measure_waiting(
    server: PostgresServer, waiting: int, options: argparse.Namespace
) -> AsyncIterator[tuple[int, dict[str, float]]]:
    """Yield for each limit what `measure` returns, where so many jobs wait, of which at most half are run."""
    async with _fresh_database(server) as database:
        await tables.insert_jobs(database, waiting)
        for limit in LIMITS:
            await tables.settle(database)
            rounds = min(options.jobs, waiting // 2) // limit
            yield limit, await _measure(database, limit, rounds)
            await tables.insert_jobs(database, rounds * limit)


@asynccontextmanager
async def _fresh_database(server: PostgresServer) -> AsyncIterator[Database]:
    async with open_database(server.url) as database:
        await database.execute("drop database if exists claims")
        await database.execute("create database claims")
    async with open_database(server.url_for("claims"), DatabaseOptions(statement_timeout=_DAY)) as database:
        await Client(database).migrate()
        yield database


async def _measure(database: Database, limit: int, rounds: int) -> dict[str, float]:
    session = await database.open_session("claims", cancel_timeout=5.0)
    try:
        return await _measure_in(session, limit, rounds)
    finally:
        await session.aclose()


async def _measure_in(session: Connection, limit: int, rounds: int) -> dict[str, float]:
    process = await session.fetch_value("select pg_backend_pid()")
    compared = await statements(session, limit)
    costs: dict[str, list[float]] = {name: [] for name in (*compared, "completion")}
    for _, (name, claim) in zip(range(rounds), cycle(compared.items()), strict=False):
        before = _processor_time(process)
        jobs = await claim(session, ME, [tables.TASK], limit)
        claimed = _processor_time(process)
        await held_rows.complete_jobs(session, ME, jobs)
        if len(jobs) < limit:
            raise SystemExit(f"{name} brought {len(jobs)} of {limit}")
        costs[name].append((claimed - before) / limit)
        costs["completion"].append((_processor_time(process) - claimed) / limit)
    return {name: median(measured[1:]) for name, measured in costs.items()}  # the first has to be planned


def _processor_time(process: int) -> float:
    """Return how many microseconds a process has been at work."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1000


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--jobs", type=int, default=20_000, help="how many jobs are claimed in each situation"
    )
    parser.add_argument("--crowd-jobs", type=int, default=50_000, help="how many stand in the way")
    parser.add_argument(
        "--waiting", type=int, nargs="+", metavar="N", help="have nothing in the way, and so many jobs wait"
    )
    parser.add_argument("--directory", help="where the server keeps its temporary folder")
    options = parser.parse_args()
    print("| in the way | jobs a claim | server CPU, us/job |\n| --- | --: | --- |")
    with passable_folder(options.directory) as folder:
        async with embedded_postgres(folder / "postgres") as server:
            for waiting in options.waiting or ():
                async for limit, costs in measure_waiting(server, waiting, options):
                    _tell(f"nothing, but {waiting:,} wait", limit, costs)
            for situation in () if options.waiting else SITUATIONS:
                for limit in LIMITS:
                    _tell(situation.name, limit, await measure(server, situation, options, limit))


def _tell(what: str, limit: int, costs: dict[str, float]) -> None:
    said = "; ".join(f"{name} {cost:.1f}" for name, cost in costs.items())
    print(f"| {what} | {limit} | {said} |", flush=True)


if __name__ == "__main__":
    trio.run(main)
