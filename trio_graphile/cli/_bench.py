"""`trio-graphile bench`: measures what this machine and this server can do together."""

from __future__ import annotations

import contextlib
import math
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import attrs
import trio
from cyclopts import Parameter

from trio_graphile._client import Client
from trio_graphile._database.database import Database, open_database
from trio_graphile._database.schema import migrate
from trio_graphile._database.statement import Statement
from trio_graphile._model.options import DatabaseOptions, WorkerOptions
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.worker import Worker
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags, WorkerFlags, given
from trio_graphile.cli._output import note, print_json, print_table

_NO_WORKER_FLAGS = WorkerFlags()
_REDRAW_INTERVAL = 0.1
_ANSWER_TIMEOUT = 60.0
_DROP_TIMEOUT = 60.0
_MOST_JOBS = 10_000_000
_SCHEMA_PREFIX = "trio_graphile_bench_"


@attrs.frozen(kw_only=True)
class Figures:
    """The figures that were measured. Durations are seconds."""

    jobs: int
    add_seconds: float
    drain_seconds: float
    latencies: Sequence[float]
    """The times from adding a job to the call of its handler, for one job at a time."""

    def rows(self) -> Iterator[tuple[str, float, str]]:
        """Yield the name of each measurement, its figure and its unit."""
        yield "jobs added in bulk", round(self.jobs / self.add_seconds), "per second"
        yield "jobs handled", round(self.jobs / self.drain_seconds), "per second"
        for name, share in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99), ("worst", 1.0)):
            yield f"latency, {name}", round(percentile(self.latencies, share) * 1000, 2), "ms"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


async def bench(
    *,
    jobs: int = 20_000,
    samples: int = 200,
    common: CommonFlags = NOTHING_GIVEN,
    worker_flags: Annotated[WorkerFlags, Parameter(name="*")] = _NO_WORKER_FLAGS,
) -> None:
    """Measure how many jobs one worker handles a second, and how soon.

    Args:
        jobs: How many jobs to drain, whose handler does nothing.
        samples: How many jobs to add and wait for, one at a time.
    """
    if not 1 <= jobs <= _MOST_JOBS or not 1 <= samples <= _MOST_JOBS:
        raise UsageError(f"--jobs and --samples are numbers from 1 to {_MOST_JOBS}")
    settings = common.settings(given(worker_flags))
    async with _schema_of_its_own(settings.database.url, settings.database) as database:
        note(f"measuring in the schema {database.schema}, at {database.address}")
        drain = await _measure_drain(database, settings.worker, jobs)
        latencies = await _measure_latency(database, settings.worker, samples)
    figures = Figures(jobs=jobs, **drain, latencies=latencies)
    if common.as_json:
        print_json(_as_json(figures, settings.worker))
    else:
        print_table(("measured", "figure", "unit"), figures.rows())


DROP_SCHEMA = Statement("drop schema if exists {schema} cascade")


@contextlib.asynccontextmanager
async def _schema_of_its_own(url: str | None, options: DatabaseOptions) -> AsyncIterator[Database]:
    """Lend the database with a new schema, which no other program knows, and drop that schema in any case.

    Raises what `open_database` and `migrate` do.
    """
    name = f"{_SCHEMA_PREFIX}{secrets.token_hex(6)}"
    async with open_database(url, attrs.evolve(options, schema=name)) as database:
        try:
            async with database.connection() as connection:
                await migrate(connection, name)
            yield database
        finally:
            with trio.move_on_after(_DROP_TIMEOUT, shield=True):
                await database.execute(DROP_SCHEMA)


def _as_json(figures: Figures, options: WorkerOptions) -> dict[str, Any]:
    return {
        "concurrency": options.concurrency,
        "local_queue_size": options.local_queue.size,
        "jobs": figures.jobs,
        "add_seconds": figures.add_seconds,
        "drain_seconds": figures.drain_seconds,
        "jobs_per_second": figures.jobs / figures.drain_seconds,
        "samples": len(figures.latencies),
        "latency_seconds": {
            name: percentile(figures.latencies, share)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        },
    }


async def _measure_drain(
    database: Database, options: WorkerOptions, jobs: int
) -> dict[Literal["add_seconds", "drain_seconds"], float]:
    tasks, done = TaskRegistry(), 0

    async def nothing() -> None:  # noqa: ASYNC124  # a plain function would run in a thread
        nonlocal done
        done += 1

    tasks.task("nothing")(nothing)
    began = time.perf_counter()
    await Client(database).add_raw_jobs([("nothing", None)] * jobs)
    added = time.perf_counter()
    async with _progress("jobs", jobs, lambda: done):
        await Worker(database, tasks, options).run_once()
    return {"add_seconds": added - began, "drain_seconds": time.perf_counter() - added}


async def _measure_latency(database: Database, options: WorkerOptions, samples: int) -> list[float]:
    tasks, client = TaskRegistry(), Client(database)
    send, receive = trio.open_memory_channel[float](1)

    async def tell() -> None:  # noqa: ASYNC124  # likewise
        send.send_nowait(time.perf_counter())

    tasks.task("tell")(tell)
    latencies: list[float] = []
    worker = Worker(database, tasks, options)
    async with (
        _progress("samples", samples, lambda: len(latencies)),
        trio.open_nursery() as nursery,
        send,
        receive,
    ):
        await nursery.start(worker.run)
        for _ in range(samples):
            began = time.perf_counter()
            await client.add_raw_job("tell")
            with trio.fail_after(_ANSWER_TIMEOUT):
                latencies.append(await receive.receive() - began)
        worker.stop()
    return latencies


@contextlib.asynccontextmanager
async def _progress(what: str, total: int, done: Callable[[], int]) -> AsyncIterator[None]:
    """Draw a bar on a terminal while the body runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=total)

        async def draw() -> None:
            while True:
                progress.update(bar, completed=done())
                await trio.sleep(_REDRAW_INTERVAL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(draw)
            yield
            nursery.cancel_scope.cancel()
