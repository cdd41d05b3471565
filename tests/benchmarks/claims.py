"""What a claim costs the server, by the statement that claims and by what stands in its way.

Processor time of the session's own process (Linux only), not time on a clock: that of others does not count.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TypeAlias

import attrs
import trio

from tests.benchmarks import tables
from trio_graphile import Client, Connection, Database, Job, open_database
from trio_graphile._database import held_rows
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile.embedded import PostgresServer, embedded_postgres

ME = "a worker"
LIMITS = (500, 24)
"""How many jobs are claimed at once: ahead, and for free slots only."""

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
    async with open_database(server.url) as database:
        await database.execute("drop database if exists claims")
        await database.execute("create database claims")
    async with open_database(server.url_for("claims")) as database:
        await Client(database).migrate()
        await situation.prepare(database, options.crowd_jobs)
        if situation.queues:
            await tables.insert_queued(database, options.jobs, min(situation.queues, options.jobs))
        else:
            await tables.insert_jobs(database, options.jobs)
        await tables.settle(database)
        session = await database.open_session("claims", cancel_timeout=5.0)
        try:
            return await _measure(session, limit, options.jobs // limit)
        finally:
            await session.aclose()


async def _measure(session: Connection, limit: int, rounds: int) -> dict[str, float]:
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
    options = parser.parse_args()
    print("| in the way | jobs a claim | server CPU, us/job |\n| --- | --: | --- |")
    async with embedded_postgres() as server:
        for situation in SITUATIONS:
            for limit in LIMITS:
                costs = await measure(server, situation, options, limit)
                said = "; ".join(f"{name} {cost:.1f}" for name, cost in costs.items())
                print(f"| {situation.name} | {limit} | {said} |", flush=True)


if __name__ == "__main__":
    trio.run(main)
