"""A worker to be killed or suspended, for which a lock stands; else its options are the usual ones."""

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
    concurrency=4,
    recovery=RecoveryOptions(presence=PresenceOptions()),
    shutdown=ShutdownOptions(grace_period=0.5),
)


async def lasting(context: JobContext) -> None:
    """Run until somebody ends it."""
    say("started", context)
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        say("cancelled", context)
        raise


async def main(url: str) -> None:
    tasks = TaskRegistry()
    tasks.task("lasting")(lasting)
    async with open_database(url) as database, trio.open_nursery() as nursery:
        worker = Worker(database, tasks, OPTIONS)
        await nursery.start(stop_on_signals, worker)
        await nursery.start(worker.run)
        os.write(1, f"ready {worker.worker_id}\n".encode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
