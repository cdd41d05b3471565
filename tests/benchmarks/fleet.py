"""What does a fleet cost its database? Sessions, statements, processor time and latency, for so many workers.

Each worker is a process of its own. `python tests/benchmarks/fleet.py --help`
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
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

import attrs
import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.arena import server_cpu_seconds  # noqa: E402
from tests.benchmarks.ours import resident_bytes  # noqa: E402
from tests.support.folders import passable_folder  # noqa: E402
from trio_graphile import (  # noqa: E402
    Client,
    Database,
    DatabaseOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres  # noqa: E402

SESSIONS = """
    select split_part(application_name, ' ', 2) as purpose
    from pg_stat_activity
    where application_name like 'trio_graphile %'
"""
TRANSACTIONS = """
    select xact_commit + xact_rollback
    from pg_stat_database
    where datname = current_database()
"""
_AT_ONCE = 4
"""How many workers are started at the same time."""
tasks = TaskRegistry()
_latencies: list[float] = []


@tasks.task("measured")
async def measured(added_at: float) -> None:
    """Note how long after it was added a job starts."""
    _latencies.append(time.time() - added_at)


async def work(poll_interval: float) -> None:
    """Run one worker until SIGTERM; print what it saw."""
    options = WorkerOptions(concurrency=4, poll_interval=poll_interval)
    async with (
        open_database(options=DatabaseOptions(pool_size=2)) as database,
        trio.open_nursery() as nursery,
    ):
        worker = Worker(database, tasks, options)
        await nursery.start(worker.run)
        print("ready", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)
        worker.stop()
    print(json.dumps({"latencies": _latencies, "rss": resident_bytes()}), flush=True)


@attrs.define
class Usage:
    """What was used up to a moment."""

    at: float
    transactions: int
    server_cpu: float
    fleet_cpu: float

    @classmethod
    async def now(cls, server: PostgresServer, database: Database, fleet: Sequence[trio.Process]) -> Usage:
        """Look."""
        transactions = await database.fetch_value(TRANSACTIONS)
        server_cpu = server_cpu_seconds(server) or 0.0
        return cls(time.perf_counter(), transactions, server_cpu, sum(map(cpu_seconds, fleet)))

    def since(self, before: Usage) -> dict[str, float]:
        """Return what was used a second, since that moment."""
        seconds = self.at - before.at
        return {
            "transactions a second": (self.transactions - before.transactions) / seconds,
            "cores of the server": (self.server_cpu - before.server_cpu) / seconds,
            "cores of the workers": (self.fleet_cpu - before.fleet_cpu) / seconds,
        }


def cpu_seconds(process: trio.Process) -> float:
    """Return what a process has used so far; see `man proc_pid_stat`."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


async def start_worker(url: str, poll_interval: float) -> trio.Process:
    """Start a worker and wait until it listens."""
    process = await trio.lowlevel.open_process(
        [sys.executable, __file__, "--worker", "--poll-interval", str(poll_interval)],
        stdout=subprocess.PIPE,
        env=os.environ | {"DATABASE_URL": url},
    )
    assert process.stdout is not None
    said = b""
    while b"\n" not in said:
        part = await process.stdout.receive_some()
        if not part:
            raise SystemExit("a worker did not start")
        said += part
    return process


async def start_fleet(
    url: str, workers: int, poll_interval: float, stack: AsyncExitStack
) -> list[trio.Process]:
    """Start workers, some at a time. They are killed at the end, whatever comes between."""
    fleet: list[trio.Process] = []
    missing = iter(range(workers))

    async def start_some() -> None:
        for _ in missing:
            process = await start_worker(url, poll_interval)
            stack.callback(process.kill)
            fleet.append(process)

    async with trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(start_some)
    return fleet


async def stop_worker(process: trio.Process, results: list[dict[str, Any]]) -> None:
    """End a worker; keep what it says."""
    process.terminate()
    assert process.stdout is not None
    said = b"".join([part async for part in process.stdout])
    await process.wait()
    results.append(json.loads(said))


async def offer(client: Client, rate: float, seconds: float) -> int:
    """Add so many jobs a second, each by itself."""
    count = int(rate * seconds)
    began = trio.current_time()
    async with client.combining_adds() as combining, trio.open_nursery() as nursery:
        for number in range(count):
            await trio.sleep_until(began + number / rate)
            nursery.start_soon(combining.add_job, measured, time.time())
    return count


async def measure(workers: int, options: argparse.Namespace) -> None:
    """Measure a fleet of so many workers, and print a row."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(passable_folder(options.directory))
        server = await stack.enter_async_context(
            embedded_postgres(folder / "postgres", settings={"max_connections": str(5 * workers + 50)})
        )
        database = await stack.enter_async_context(open_database(server.url))
        client = Client(database, tasks)
        await client.migrate()
        began = time.perf_counter()
        fleet = await start_fleet(server.url, workers, options.poll_interval, stack)
        started = time.perf_counter() - began
        await trio.sleep(options.pause)
        sessions = Counter(row["purpose"] for row in await database.fetch(SESSIONS))
        before = await Usage.now(server, database, fleet)
        await trio.sleep(options.seconds)
        idle = (await Usage.now(server, database, fleet)).since(before)
        before = await Usage.now(server, database, fleet)
        count = await offer(client, options.rate, options.seconds)
        busy = (await Usage.now(server, database, fleet)).since(before)
        results: list[dict[str, Any]] = []
        before_stop = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for process in fleet:
                nursery.start_soon(stop_worker, process, results)
        stopped = time.perf_counter() - before_stop
    latencies = sorted(seconds for result in results for seconds in result["latencies"])
    centiles = quantiles(latencies, n=100)
    print(f"\n{workers} workers, started in {started:.0f} s, stopped in {stopped:.1f} s")
    print(f"  sessions besides the pools: {sum(sessions.values())}: {dict(sorted(sessions.items()))}")
    print(f"  memory of a worker: {max(result['rss'] for result in results) / 2**20:.0f} MiB")
    print(f"  idle, each second: {shown(idle)}; {idle['transactions a second'] / workers:.2f} of a worker")
    print(f"  {options.rate:g} jobs a second, each second: {shown(busy)}")
    print(
        f"  {count} jobs were added, {len(latencies)} ran; they started after "
        f"p50 {centiles[49] * 1e3:.1f} ms, p99 {centiles[98] * 1e3:.1f}, at most {latencies[-1] * 1e3:.1f}",
        flush=True,
    )


def shown(used: dict[str, float]) -> str:
    """Return what was used in words."""
    return ", ".join(f"{value:.2f} {name.removesuffix(' a second')}" for name, value in used.items())


async def main() -> None:
    """Measure one fleet after the other, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--poll-interval", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=200.0, help="how many jobs a second are offered")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each is measured")
    parser.add_argument("--pause", type=float, default=15.0, help="how long the fleet is left alone before")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the server has its data")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        await work(options.poll_interval)
        return
    for workers in options.workers:
        await measure(workers, options)


trio.run(main)
