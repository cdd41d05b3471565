"""What a claim costs the server, by the statement that claims, by what is in its way and by how many wait.

Processor time of the session's own process (Linux only), not time on a clock: that of others does not count.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
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
_PART = 1_000_000
"""How many jobs are added at once: they are sorted, in memory."""

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


@attrs.frozen
class Side:
    """A session of a database, and what its claims cost so far."""

    session: Connection
    process: int
    limit: int
    compared: dict[str, Claim]
    costs: dict[str, list[float]]
    """By the name of the statement, in microseconds per job."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, database: Database, limit: int) -> AsyncIterator[Side]:
        session = await database.open_session("claims", cancel_timeout=5.0)
        try:
            compared = await statements(session, limit)
            process = await session.fetch_value("select pg_backend_pid()")
            yield cls(session, process, limit, compared, {name: [] for name in (*compared, "completion")})
        finally:
            await session.aclose()

    async def measure(self) -> None:
        """Claim jobs by each statement, and complete them."""
        for name, claim in self.compared.items():
            before = _processor_time(self.process)
            jobs = await claim(self.session, ME, [tables.TASK], self.limit)
            claimed = _processor_time(self.process)
            await held_rows.complete_jobs(self.session, ME, jobs)
            if len(jobs) < self.limit:
                raise SystemExit(f"{name} brought {len(jobs)} of {self.limit}")
            self.costs[name].append((claimed - before) / self.limit)
            self.costs["completion"].append((_processor_time(self.process) - claimed) / self.limit)

    def medians(self) -> dict[str, float]:
        """Return the us that a job's claim takes by each statement, and its completion."""
        return {name: median(costs[1:]) for name, costs in self.costs.items()}  # the first has to be planned


async def measure(
    server: PostgresServer, situation: Situation, options: argparse.Namespace, limit: int
) -> dict[str, float]:
    """Return what claims cost in a situation, by each statement in turn."""
    async with _fresh_database(server, "claims") as database:
        await situation.prepare(database, options.crowd_jobs)
        if situation.queues:
            await tables.insert_queued(database, options.jobs, min(situation.queues, options.jobs))
        else:
            await tables.insert_jobs(database, options.jobs)
        await tables.settle(database)
        async with Side.opened(database, limit) as side:
            for _ in range(options.jobs // (limit * len(side.compared))):
                await side.measure()
            return side.medians()


async def compare_waiting(server: PostgresServer, options: argparse.Namespace) -> None:
    """Tell what claims cost where so many jobs wait, by turns, so that the machine is the same for all."""
    async with AsyncExitStack() as stack:
        databases = {}
        for waiting in options.waiting:
            databases[waiting] = await stack.enter_async_context(_fresh_database(server, f"claims_{waiting}"))
            await _fill(databases[waiting], waiting)
        for limit in LIMITS:
            sides = {
                waiting: await stack.enter_async_context(Side.opened(database, limit))
                for waiting, database in databases.items()
            }
            for _ in range(options.jobs // (limit * 2)):
                for waiting, side in sides.items():
                    await side.measure()
                    await tables.insert_jobs(databases[waiting], limit * len(side.compared))
            for waiting, side in sides.items():
                _tell(f"nothing, but {waiting:,} wait", limit, side.medians())


async def _fill(database: Database, jobs: int) -> None:
    for done in range(0, jobs, _PART):
        await tables.insert_jobs(database, min(_PART, jobs - done))
    await tables.settle(database)


@asynccontextmanager
async def _fresh_database(server: PostgresServer, name: str) -> AsyncIterator[Database]:
    async with open_database(server.url) as database:
        await database.execute(f"drop database if exists {name}")
        await database.execute(f"create database {name}")
    async with open_database(server.url_for(name), DatabaseOptions(statement_timeout=_DAY)) as database:
        await Client(database).migrate()
        yield database


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
        "--waiting", type=int, nargs="+", metavar="N", help="compare tables in which so many wait"
    )
    parser.add_argument("--directory", help="where the server keeps its temporary folder")
    options = parser.parse_args()
    print("| in the way | jobs a claim | server CPU, us/job |\n| --- | --: | --- |")
    with passable_folder(options.directory) as folder:
        async with embedded_postgres(folder / "postgres") as server:
            if options.waiting:
                await compare_waiting(server, options)
            for situation in () if options.waiting else SITUATIONS:
                for limit in LIMITS:
                    _tell(situation.name, limit, await measure(server, situation, options, limit))


def _tell(what: str, limit: int, costs: dict[str, float]) -> None:
    said = "; ".join(f"{name} {cost:.1f}" for name, cost in costs.items())
    print(f"| {what} | {limit} | {said} |", flush=True)


if __name__ == "__main__":
    trio.run(main)
