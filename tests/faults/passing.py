"""A worker whose jobs take as long as their payload says; it may be suspended, cut off or killed."""

from __future__ import annotations

import os
import sys

import trio

from tests.faults.program import say
from trio_graphile import (
    JobContext,
    PresenceOptions,
    RecoveryOptions,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    stop_on_signals,
)

OPTIONS = WorkerOptions(
    concurrency=3,
    recovery=RecoveryOptions(presence=PresenceOptions(indirect=True)),  # for the one behind a proxy
    shutdown=ShutdownOptions(grace_period=0.5),
)


async def passing(duration: float, context: JobContext) -> None:
    """Take a while."""
    say("started", context)
    try:
        await trio.sleep(duration)
    except trio.Cancelled:
        say("cancelled", context)
        raise
    say("returned", context)


async def main(url: str) -> None:
    tasks = TaskRegistry()
    tasks.task("passing")(passing)
    async with open_database(url) as database, trio.open_nursery() as nursery:
        worker = Worker(database, tasks, OPTIONS)
        await nursery.start(stop_on_signals, worker)
        await nursery.start(worker.run)
        os.write(1, f"ready {worker.worker_id}\n".encode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
