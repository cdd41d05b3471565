"""How many jobs a second does each lane run, beside the async one? Prints a table; ratios over 1 are faster.

`python tests/benchmarks/lanes.py --help`
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.contenders import CONCURRENCY  # noqa: E402
from trio_graphile import (  # noqa: E402
    Client,
    Database,
    DatabaseOptions,
    JobContext,
    LocalQueueOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import embedded_postgres  # noqa: E402

tasks = TaskRegistry()


@tasks.task("async")
async def run_async(_payload: int) -> None: ...


@tasks.task("with timeout", timeout=60)
async def run_with_timeout(_payload: int) -> None: ...


@tasks.task("bounded", concurrency=CONCURRENCY // 2)
async def run_bounded(_payload: int) -> None: ...


@tasks.task("thread")
def run_in_thread(_payload: int) -> None: ...


@tasks.task("process", lane="process")
def run_in_process(_payload: int) -> None: ...


@tasks.batch_task("batch of 100")
async def run_batch(_items: list[int]) -> None: ...


@tasks.task("transaction")
async def run_transaction(context: JobContext) -> None:
    async with context.complete_in_transaction():
        pass


SIZES = {"process": 0.05, "thread": 0.2, "transaction": 0.2, "batch of 100": 0.2}
"""What part of the jobs is enough to measure a slower lane; a process has to start first."""


async def measure(database: Database, lane: str, jobs: int) -> float:
    """Return how many jobs a second a worker drains."""
    client = Client(database, tasks)
    payload = list(range(100)) if lane == "batch of 100" else 1
    await client.add_raw_jobs([(lane, payload)] * jobs)
    await database.execute("vacuum (analyze) graphile_worker._private_jobs")
    registry = TaskRegistry()
    registry._tasks[lane] = tasks[lane]  # one lane at a time: processes start only where they are wanted
    options = WorkerOptions(concurrency=CONCURRENCY, local_queue=LocalQueueOptions(size=500))
    before = time.perf_counter()
    report = await Worker(database, registry, options).run_once()
    seconds = time.perf_counter() - before
    if report.completed != jobs:
        raise SystemExit(f"{lane}: {report}")
    return jobs / seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=20_000, help="how many jobs of the fastest lane")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {lane: [] for lane in tasks.identifiers}
    # A server that never waits for the disk: it is the lanes that are looked at.
    async with (
        embedded_postgres() as server,
        open_database(server.url, DatabaseOptions(pool_size=CONCURRENCY)) as database,
    ):
        await Client(database).migrate()
        for _ in range(options.rounds):
            for lane, measured in rates.items():
                measured.append(await measure(database, lane, int(options.jobs * SIZES.get(lane, 1))))
    print("| lane | jobs/s | beside async |\n|---|--:|--:|")
    for lane, measured in rates.items():
        rate = median(measured)
        print(f"| {lane} | {rate:,.0f} | {rate / median(rates['async']):.2f} |")


if __name__ == "__main__":
    trio.run(main)
