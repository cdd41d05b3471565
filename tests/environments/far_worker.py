"""A worker for the other end of a bad network. It says what it does, with the time, line by line."""

from __future__ import annotations

import os
import sys
import time

import trio

from trio_graphile import (
    JobContext,
    LeaseOptions,
    RecoveryOptions,
    ShutdownIncomplete,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    stop_on_signals,
)
from trio_graphile._model.groups import leaves

GRACE, SLOTS = 0.5, 4


def options(lease: float, flush: float) -> WorkerOptions:
    return WorkerOptions(
        concurrency=SLOTS,
        poll_interval=0.5,
        lease=LeaseOptions(length=lease),
        recovery=RecoveryOptions(sweep_threshold=lease, sweep_interval=0.5, recovery_delay=0.0),
        shutdown=ShutdownOptions(grace_period=GRACE, flush_timeout=flush),
    )


def say(*words: object) -> None:
    os.write(1, " ".join([*map(str, words), f"{time.monotonic()}\n"]).encode())


async def held(context: JobContext) -> None:
    say("began", context.job.id)
    try:
        await trio.sleep_forever()
    finally:
        say("ended", context.job.id, time.time())


async def quick(context: JobContext) -> None:
    say("ran", context.job.id)


async def main(url: str, lease: str, flush: str) -> None:
    tasks = TaskRegistry()
    tasks.task("held")(held)
    tasks.task("quick")(quick)
    try:
        async with open_database(url) as database, trio.open_nursery() as nursery:
            worker = Worker(database, tasks, options(float(lease), float(flush)))
            await nursery.start(stop_on_signals, worker)
            await nursery.start(worker.run)
            say("ready", worker.worker_id)
    except* ShutdownIncomplete as incomplete:
        for error in leaves(incomplete):
            assert isinstance(error, ShutdownIncomplete)
            say("incomplete", *error.job_ids)


if __name__ == "__main__":
    url, lease, flush = sys.argv[1:]
    trio.run(main, url, lease, flush)
