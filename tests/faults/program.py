"""A worker to be killed. It runs jobs of the database it is given, and says what it does, line by line."""

from __future__ import annotations

import os
import sys
import time

import trio

from trio_graphile import (
    JobContext,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    stop_on_signals,
)

SLOTS = 4
THRESHOLD = 2.0
"""After how many seconds without a sign of life a worker is taken for dead: a hundredth of the usual."""

OPTIONS = WorkerOptions(
    concurrency=SLOTS,
    poll_interval=0.2,
    local_queue=LocalQueueOptions(size=6),
    lease=LeaseOptions(length=THRESHOLD),
    recovery=RecoveryOptions(sweep_threshold=THRESHOLD, sweep_interval=0.2, recovery_delay=0.0),
)
WORK = 0.01
"""How long a job takes: long enough to be killed in the middle."""


def say(what: str, context: JobContext) -> None:
    """Tell it at once, so that it is known even if we are killed next."""
    os.write(1, f"{what} {context.job.id} {context.attempt} {time.monotonic()}\n".encode())


async def brief(context: JobContext) -> None:
    say("started", context)
    try:
        await trio.sleep(WORK)
    except trio.Cancelled:
        say("cancelled", context)
        raise
    say("returned", context)


async def failing_once(context: JobContext) -> None:
    say("started", context)
    if context.attempt == 1:
        say("raised", context)
        raise ValueError("as it should")
    say("returned", context)


async def serve(url: str, tasks: TaskRegistry, options: WorkerOptions = OPTIONS) -> None:
    """Run a worker until a signal stops it; say when it takes jobs, and who it is."""
    async with open_database(url) as database, trio.open_nursery() as nursery:
        worker = Worker(database, tasks, options)
        await nursery.start(stop_on_signals, worker)
        await nursery.start(worker.run)
        os.write(1, f"ready {worker.worker_id}\n".encode())


async def main(url: str) -> None:
    tasks = TaskRegistry()
    tasks.task("brief")(brief)
    tasks.task("failing_once")(failing_once)
    await serve(url, tasks)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
