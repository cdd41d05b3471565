"""Does it stay flat? Jobs arrive at a steady rate, for minutes or hours; each period has a row of figures.

`--pinned` keeps a snapshot open all the while, so that vacuum can remove no dead row.
`python tests/benchmarks/endurance.py --help`
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.arena import server_cpu_seconds  # noqa: E402
from tests.benchmarks.ours import resident_bytes  # noqa: E402
from tests.benchmarks.tables import is_empty, leave_dead, snapshot_held  # noqa: E402
from tests.support.folders import passable_folder  # noqa: E402
from trio_graphile import (  # noqa: E402
    Client,
    Database,
    DatabaseOptions,
    LocalQueueOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres  # noqa: E402

SIZES = """
    select
      pg_table_size('graphile_worker._private_jobs') as table_bytes,
      pg_indexes_size('graphile_worker._private_jobs') as index_bytes,
      pg_stat_get_dead_tuples('graphile_worker._private_jobs'::regclass) as dead_rows
"""
_TICK = 0.02
"""How often jobs are added, in seconds: all that are due by then, in one call."""
_LOOK = 0.5
"""How often somebody looks whether the last job has run, in seconds: under a snapshot this reads much."""
_PATIENCE = 60.0
"""How long the last jobs may take, in seconds."""
_RESOLUTION = 10_000
"""Latencies are counted in so many parts of a second."""
tasks = TaskRegistry()


# --- the worker's process ---------------------------------------------------------------------------


@attrs.define
class Latencies:
    """How long after they were added jobs started: so many for each tenth of a millisecond."""

    counts: Counter[int] = attrs.field(factory=Counter)

    def note(self, seconds: float) -> None:
        self.counts[int(seconds * _RESOLUTION)] += 1

    def of(self, part: float) -> float:
        """Return within how many seconds this part of the jobs started; 0 if there were none."""
        missing = part * self.counts.total()
        for value in sorted(self.counts):
            missing -= self.counts[value]
            if missing <= 0:
                return value / _RESOLUTION
        return 0.0

    def report(self) -> dict[str, float]:
        return {"ran": self.counts.total(), "p50": self.of(0.5), "p99": self.of(0.99), "max": self.of(1.0)}


_period, _whole = Latencies(), Latencies()


@tasks.task("measured")
async def measured(added_at: float) -> None:
    """Note how long after it was added a job starts. All processes of a machine share this clock."""
    _period.note(time.monotonic() - added_at)


def end_period() -> dict[str, float]:
    """Return what the jobs since the last one came to."""
    report = _period.report() | {"rss": resident_bytes()}
    _whole.counts.update(_period.counts)
    _period.counts.clear()
    return report


async def work(options: argparse.Namespace) -> None:
    """Run one worker until SIGTERM; print a line when it is ready, for each period, and for the whole."""
    worker_options = WorkerOptions(
        concurrency=options.concurrency, local_queue=LocalQueueOptions(size=options.prefetch)
    )
    async with (
        open_database(options=DatabaseOptions(pool_size=2)) as database,
        trio.open_nursery() as nursery,
    ):
        worker = Worker(database, tasks, worker_options)
        await nursery.start(worker.run)
        print(json.dumps("ready"), flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            began, number = trio.current_time(), 0
            while True:
                number += 1
                with trio.move_on_at(began + number * options.period):
                    await anext(signals)
                    break
                print(json.dumps(end_period()), flush=True)
        worker.stop()
    end_period()
    print(json.dumps(_whole.report()), flush=True)


# --- the program ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Row:
    """Prints what one period came to, below the others."""

    server: PostgresServer
    database: Database
    period: float
    added: int = 0
    """How many jobs were added so far."""
    _ran: int = 0
    _periods: int = 0
    _cpu: float = 0.0

    def head(self) -> None:
        self._cpu = server_cpu_seconds(self.server) or 0.0
        print(
            "  seconds  jobs/s  waiting  p50 ms  p99 ms  max ms  table MiB  indexes MiB  dead rows"
            "  worker MiB  server's cores"
        )

    async def show(self, report: dict[str, float]) -> None:
        sizes = await self.database.fetch_row(SIZES)
        assert sizes is not None
        cpu = server_cpu_seconds(self.server) or 0.0
        cores, self._cpu = (cpu - self._cpu) / self.period, cpu
        self._periods += 1
        self._ran += int(report["ran"])
        print(
            f"{self._periods * self.period:9.0f}{report['ran'] / self.period:8.0f}{self.added - self._ran:9}"
            f"{report['p50'] * 1e3:8.1f}{report['p99'] * 1e3:8.1f}{report['max'] * 1e3:8.1f}"
            f"{sizes['table_bytes'] / 2**20:11.1f}{sizes['index_bytes'] / 2**20:13.1f}"
            f"{sizes['dead_rows']:11}{report['rss'] / 2**20:12.1f}{cores:16.2f}",
            flush=True,
        )


async def offer(database: Database, rate: float, seconds: float, row: Row) -> None:
    """Add so many jobs a second."""
    client = Client(database, tasks)
    began = trio.current_time()
    for tick in range(1, int(seconds / _TICK) + 1):
        await trio.sleep_until(began + tick * _TICK)
        due = int(rate * tick * _TICK) - row.added
        now = time.monotonic()
        await client.add_jobs([(measured, now)] * due)
        row.added += due


@asynccontextmanager
async def worker_process(url: str) -> AsyncIterator[tuple[trio.Process, AsyncIterator[Any]]]:
    """Lend a worker, which listens, and what it prints. It is killed at the end if it still runs."""
    process = await trio.lowlevel.open_process(
        [sys.executable, __file__, "--worker", *sys.argv[1:]],
        stdout=subprocess.PIPE,
        env=os.environ | {"DATABASE_URL": url},
    )
    try:
        said = _values(process)
        if await anext(said, None) != "ready":
            raise SystemExit("the worker did not start")
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()


async def _values(process: trio.Process) -> AsyncIterator[Any]:
    """Yield what a process prints, one value a line."""
    assert process.stdout is not None
    rest = b""
    async for part in process.stdout:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield json.loads(line)


async def measure(options: argparse.Namespace) -> int:
    """Offer jobs for as long as wanted; return 1 if one of them did not run, or ran twice."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(passable_folder(options.directory))
        server = await stack.enter_async_context(embedded_postgres(folder / "postgres"))
        database = await stack.enter_async_context(
            open_database(server.url, DatabaseOptions(statement_timeout=3600.0))
        )
        await Client(database, tasks).migrate()
        process, said = await stack.enter_async_context(worker_process(server.url))
        await stack.enter_async_context(snapshot_held(server.url) if options.pinned else nullcontext())
        await leave_dead(database, options.dead, options.rate)
        row = Row(server, database, options.period)
        row.head()
        last: dict[str, float] = {}

        async def show_periods() -> None:
            async for report in said:
                last.update(report)
                if "rss" in report:
                    await row.show(report)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_periods)
            await offer(database, options.rate, options.seconds, row)
            with trio.move_on_after(_PATIENCE):
                while not await is_empty(database):  # noqa: ASYNC110  # only the database knows
                    await trio.sleep(_LOOK)
            process.terminate()
    print(
        f"{row.added} jobs were added, {last['ran']:.0f} ran. They started after p50"
        f" {last['p50'] * 1e3:.1f} ms, p99 {last['p99'] * 1e3:.1f}, at most {last['max'] * 1e3:.1f}."
    )
    return 0 if last["ran"] == row.added else 1


async def main() -> int:
    """Measure, or be the worker; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=2000.0, help="how many jobs a second are added")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long")
    parser.add_argument("--period", type=float, default=10.0, help="how many seconds have one row")
    parser.add_argument("--pinned", action="store_true", help="keep a snapshot open: nothing can be vacuumed")
    parser.add_argument("--dead", type=int, default=0, help="how many jobs have left dead rows before")
    parser.add_argument("--concurrency", type=int, default=24, help="how many slots the worker has")
    parser.add_argument("--prefetch", type=int, default=0, help="how many jobs it claims ahead")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the server has its data")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        await work(options)
        return 0
    return await measure(options)


if __name__ == "__main__":
    sys.exit(trio.run(main))
