"""A worker for the other end of a bad network. It says what it does, with the time, line by line.

`$FAR_SETTINGS`, a JSON object, is set on its sessions in place of what we set. With `$FAR_POOLED`, a pooler
stands in between.
"""

from __future__ import annotations

import json
import os
import sys
import time

import trio

from trio_graphile import (
    DatabaseOptions,
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


def worker_options(lease: float, flush: float) -> WorkerOptions:
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


TOUCH = "update public.account set balance = balance + 1"
NOTE = "insert into public.done (id) values ($1::bigint)"


async def touch(context: JobContext) -> None:
    """Write what others write, too, outside of any transaction."""
    say("began", context.job.id)
    await context.database.execute(TOUCH)


async def transfer(context: JobContext) -> None:
    """Write once, and complete the job with that."""
    say("began", context.job.id)
    async with context.complete_in_transaction() as connection:
        await connection.execute(TOUCH)
        await connection.execute(NOTE, context.job.id)
        say("wrote", context.job.id)


async def dwell(context: JobContext) -> None:
    """The same in a snapshot, with the row of the job locked; whoever came by the wire stays in there."""
    say("began", context.job.id)
    async with context.complete_in_transaction("repeatable_read") as connection:
        is_far = await connection.fetch_value("select inet_client_addr() is not null")
        await connection.execute(TOUCH)
        await connection.execute(NOTE, context.job.id)
        say("wrote", context.job.id)
        if is_far:
            await trio.sleep_forever()


async def main(url: str, lease: str, flush: str) -> None:
    tasks = TaskRegistry()
    for handler in (held, quick, touch, transfer, dwell):
        tasks.task(handler.__name__)(handler)
    arguments = {"server_settings": json.loads(os.environ.get("FAR_SETTINGS", "{}"))}
    pooled = DatabaseOptions(pooled=True, wait_for_server=10.0)
    options = pooled if os.environ.get("FAR_POOLED") else None
    try:
        async with (
            open_database(url, options, connect_arguments=arguments) as database,
            trio.open_nursery() as nursery,
        ):
            worker = Worker(database, tasks, worker_options(float(lease), float(flush)))
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
