"""What is measured: for each workload what is in the tables before, what runs, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TypeAlias

import attrs
import trio

from tests.benchmarks import tables
from tests.benchmarks.arena import Arena, BenchmarkFailed, Result, Workers
from tests.benchmarks.contenders import OURS, Contender
from tests.benchmarks.sizes import Sizes
from trio_graphile import Database, open_database

CLEAR = "clear"
"""The case that others of the same workload are compared with: nothing is in the way."""
_PAUSE = 0.005  # between two adds whose latency is measured
_REFILL = 1_000  # how many jobs a worker adds when it has run as many
_HELD_BACKLOG = 5_000
_SETTLED = 1.0  # how long an idle worker has run when the shorter of two is stopped
_LOOK_INTERVAL = 0.02

Cases: TypeAlias = AsyncIterator[tuple[str, Result]]
"""A case by its name, and what it gave."""
Prepare: TypeAlias = Callable[[Database], Awaitable[None]]


@attrs.frozen
class Workload:
    """One thing that is measured, in one or several cases."""

    name: str
    measure: Callable[[Arena, Contender, Sizes], Cases]
    once: bool = False
    """It takes long and varies little: one round is enough, unless all is measured in full."""


async def drain(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    yield CLEAR, await _drain(arena, contender, contender.part_of(sizes.drain_jobs))


async def latency(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    async with arena.database(contender) as url:
        result = await arena.run(contender, url, "latency", adds=sizes.latency_adds, pause=_PAUSE)
    yield CLEAR, result


async def add(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    async with arena.database(contender) as url:
        result: Result = {"jobs": sizes.add_bulk}
        with arena.server_cpu(result):
            result |= await arena.run(contender, url, "add", jobs=sizes.add_bulk, singles=sizes.add_singles)
    yield CLEAR, result


async def calls(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    """What most programs add at a time, one call after the other."""
    for keyed in (False, True):
        for size in (100, 1_000):
            async with arena.database(contender) as url:
                result: Result = {"jobs": sizes.call_jobs}
                with arena.server_cpu(result):
                    result |= await arena.run(
                        contender, url, "calls", jobs=sizes.call_jobs, size=size, keyed=keyed
                    )
            yield f"{size:,}{' keyed' if keyed else ''}", result


async def stuck(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    """Jobs of better priority wait in queues that somebody has locked."""

    jobs = contender.part_of(sizes.ready_jobs)

    async def behind_stuck_jobs(database: Database) -> None:
        await tables.insert_stuck(database, sizes.stuck_jobs)
        await tables.insert_jobs(database, jobs)

    yield CLEAR, await _drain(arena, contender, jobs)
    yield "stuck", await _drain(arena, contender, jobs, behind_stuck_jobs)


async def queues(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    yield CLEAR, await _drain(arena, contender, sizes.queue_jobs)
    for count in (sizes.queue_jobs // 10, sizes.queue_jobs):

        async def spread(database: Database, count: int = count) -> None:
            await tables.insert_queued(database, sizes.queue_jobs, count)

        yield f"{count:,} queues", await _drain(arena, contender, sizes.queue_jobs, spread)
        if contender.project == OURS:
            seen = await _drain(arena, contender, sizes.queue_jobs, spread, benchmark="watch_queues")
            if seen["overlaps"] or seen["disorders"]:
                raise BenchmarkFailed(f"jobs of a queue overlapped or changed places: {seen}")


async def crowded(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    yield CLEAR, await _drain(arena, contender, sizes.ready_jobs)
    for kind in ("future", "exhausted", "foreign"):

        async def crowd(database: Database, kind: str = kind) -> None:
            await tables.insert_crowd(database, kind, sizes.crowd_jobs)
            await tables.insert_jobs(database, sizes.ready_jobs)

        yield kind, await _drain(arena, contender, sizes.ready_jobs, crowd)


async def backlog(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    waiting = 1_000
    while waiting <= sizes.backlog_most:

        async def pile_up(database: Database, waiting: int = waiting) -> None:
            await tables.insert_jobs(database, waiting)

        jobs = min(waiting, sizes.backlog_jobs)
        yield f"{waiting:,}", await _drain(arena, contender, jobs, pile_up)
        waiting *= 10


async def memory(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    yield CLEAR, await _drain(arena, contender, sizes.memory_jobs, rss_samples=20)


async def held(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    """Jobs are added as they are run, and what is left of them cannot be vacuumed away."""
    for case in (CLEAR, "held"):
        async with arena.database(contender) as url:
            await tables.fill(url, _HELD_BACKLOG)
            result: Result = {}
            async with (
                tables.snapshot_held(url) if case == "held" else nullcontext(),
                arena.workers(contender, url, 1, refill=_REFILL) as workers,
            ):
                with arena.server_cpu(result):
                    await trio.sleep(sizes.held_seconds)
        result |= workers.results[0]
        yield case, {**result, "jobs": result["handled"]}


async def processes(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    """Several processes drain one table; from when they are told to begin until it is empty."""
    for count in (1, sizes.processes):
        async with arena.database(contender) as url, _watched(url) as database:
            await tables.fill(url, sizes.drain_jobs)
            result: Result = {"jobs": sizes.drain_jobs}
            async with arena.workers(contender, url, count) as workers:
                before = time.perf_counter()
                with arena.server_cpu(result):
                    await _wait_empty(arena, workers, database)
                result["seconds"] = time.perf_counter() - before
            result["client_cpu"] = sum(each["client_cpu"] for each in workers.results)
        yield CLEAR if count == 1 else f"{count} processes", result


async def idle(arena: Arena, contender: Contender, sizes: Sizes) -> Cases:
    """What is done in so many seconds: the difference of two runs, in which start and stop cancel out."""
    short = await _idle_for(arena, contender, _SETTLED)
    long = await _idle_for(arena, contender, _SETTLED + sizes.idle_seconds)
    yield CLEAR, {"seconds": sizes.idle_seconds, **{name: long[name] - short[name] for name in short}}


async def _idle_for(arena: Arena, contender: Contender, seconds: float) -> Result:
    used: Result = {}
    async with arena.database(contender) as url:
        before = await _transactions(arena, url)
        with arena.server_cpu(used):
            async with arena.workers(contender, url, 1) as workers:
                await trio.sleep(seconds)
        after = await _transactions(arena, url)
    return {**used, "client_cpu": workers.results[0]["client_cpu"], "transactions": after - before}


async def _drain(
    arena: Arena,
    contender: Contender,
    jobs: int,
    prepare: Prepare | None = None,
    *,
    benchmark: str = "drain",
    **options: object,
) -> Result:
    """Drain so many jobs. Without `prepare` no others are there, and none may be left."""
    async with arena.database(contender) as url:
        await _prepare(arena, contender, url, jobs, prepare)
        result: Result = {"jobs": jobs}
        with arena.server_cpu(result):
            result |= await arena.run(contender, url, benchmark, jobs=jobs, **options)
        if prepare is None:
            await _check_done(contender, url)
        return result


async def _prepare(arena: Arena, contender: Contender, url: str, jobs: int, prepare: Prepare | None) -> None:
    if contender.unfinished is not None:
        await arena.run(contender, url, "fill", jobs=jobs)
    async with tables.prepared(url) as database:
        if prepare is not None:
            await prepare(database)
        elif contender.unfinished is None:
            await tables.insert_jobs(database, jobs)


async def _check_done(contender: Contender, url: str) -> None:
    async with open_database(url) as database:
        if contender.unfinished is None:
            done = await tables.is_empty(database)
        else:
            done = not await database.fetch_value(contender.unfinished)
    if not done:
        raise BenchmarkFailed("it ended, and jobs are left")


@asynccontextmanager
async def _watched(url: str) -> AsyncIterator[Database]:
    async with open_database(url) as database:
        yield database


async def _wait_empty(arena: Arena, workers: Workers, database: Database) -> None:
    with trio.move_on_after(arena.timeout) as waiting:
        while not await tables.is_empty(database):  # noqa: ASYNC110 (the workers are other processes)
            workers.check()
            await trio.sleep(_LOOK_INTERVAL)
    if waiting.cancelled_caught:
        raise BenchmarkFailed(f"jobs are left after {arena.timeout:.0f} s")


async def _transactions(arena: Arena, url: str) -> int:
    """Return how many transactions a database has seen, once nobody is connected to it."""
    name = url.rpartition("?")[0].rpartition("/")[2]
    async with open_database(arena.server.url) as database:
        connected = "select exists (select from pg_stat_activity where datname = $1)"
        while await database.fetch_value(connected, name):  # noqa: ASYNC110 (as above)
            await trio.sleep(_LOOK_INTERVAL)
        counted = "select xact_commit + xact_rollback from pg_stat_database where datname = $1"
        return int(await database.fetch_value(counted, name))


WORKLOADS = [
    Workload("drain", drain),
    Workload("latency", latency),
    Workload("add", add),
    Workload("calls", calls),
    Workload("stuck", stuck),
    Workload("queues", queues),
    Workload("crowded", crowded),
    Workload("processes", processes),
    Workload("backlog", backlog),
    Workload("held", held, once=True),
    Workload("idle", idle, once=True),
    Workload("memory", memory, once=True),
]
