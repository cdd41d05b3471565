"""A worker of ours in the storm, with handlers of every kind."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import attrs
import trio

from tests.storm.marker import Marker
from tests.storm.ours_process import in_process
from tests.storm.ours_settings import Pulse, Settings, Work
from trio_graphile import (
    Database,
    DatabaseOptions,
    JobContext,
    LocalQueueOptions,
    PresenceOptions,
    ProcessOptions,
    RecoveryOptions,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    stop_on_signals,
)

tasks = TaskRegistry()
tasks.include(in_process)


@attrs.frozen
class Marks:
    """The referee's database, for handlers."""

    database: Database
    settings: Settings

    def of(self, context: JobContext) -> Marker:
        return Marker(self.database, self.settings.worker, os.getpid(), context.attempt)


@tasks.task("work", needs=[Marks])
async def work(payload: Work, context: JobContext) -> None:
    async with context.get(Marks).of(context).run_of(payload.token):
        if payload.kind == "cpu":
            time.sleep(payload.seconds)  # noqa: ASYNC251  # this is what it is for
        elif payload.kind == "shielded":
            with trio.move_on_after(payload.seconds, shield=True):
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.sleep(payload.seconds)


@tasks.task("transaction", needs=[Marks])
async def in_transaction(payload: Work, context: JobContext) -> None:
    async with (
        context.get(Marks).of(context).run_of(payload.token),
        context.complete_in_transaction() as connection,
    ):
        await connection.execute("insert into storm_effects (token) values ($1::bigint)", payload.token)
        await trio.sleep(payload.seconds)


@tasks.batch_task("batch", needs=[Marks])
async def batch(items: list[Work], context: JobContext) -> None:
    async with context.get(Marks).of(context).run_of(*(item.token for item in items)):
        await trio.sleep(max(item.seconds for item in items))


@tasks.task("thread", needs=[Marks])
def in_thread(payload: Work, context: JobContext) -> None:
    marker = context.get(Marks).of(context)
    trio.from_thread.run(marker.mark, "started", payload.token)
    try:
        for _ in range(int(payload.seconds * 100)):
            trio.from_thread.check_cancelled()
            time.sleep(0.01)
    except trio.Cancelled:
        trio.from_thread.run(marker.mark, "interrupted", payload.token)
        raise
    trio.from_thread.run(marker.mark, "finished", payload.token)


@tasks.task("deaf", needs=[Marks])
def in_deaf_thread(payload: Work, context: JobContext) -> None:
    """Do not ask whether to stop. If it is abandoned, its last mark finds no loop to run in."""
    marker = context.get(Marks).of(context)
    trio.from_thread.run(marker.mark, "started", payload.token)
    with Pulse.of(payload.token, marker.worker) as pulse:
        pulse.beat_for(payload.seconds)
    trio.from_thread.run(marker.mark, "finished", payload.token)


def options_of(settings: Settings) -> WorkerOptions:
    return WorkerOptions(
        concurrency=settings.concurrency,
        local_queue=LocalQueueOptions(size=settings.prefetch),
        processes=ProcessOptions(count=settings.concurrency, prestart=settings.prestart),
        recovery=RecoveryOptions(presence=PresenceOptions()),
        shutdown=ShutdownOptions(grace_period=settings.grace),
    )


def database_options_of(settings: Settings) -> DatabaseOptions:
    pooled = settings.direct_url is not None
    return DatabaseOptions(
        pool_size=settings.concurrency,
        prepared_statements=not pooled,
        direct_url=settings.direct_url,
        wait_for_server=60.0,
    )


async def run(worker: Worker, *, task_status: trio.TaskStatus[None]) -> None:
    """Run the worker, and leave its report for whoever wonders about this process."""
    print(await worker.run(task_status=task_status), file=sys.stderr)


async def main(*, heeds_signals: bool) -> None:
    settings = Settings.of_environment()
    patient = DatabaseOptions(pool_size=2, connect_timeout=30.0)
    async with (
        open_database(settings.marks_url, patient) as marks,
        open_database(settings.database_url, database_options_of(settings)) as database,
        trio.open_nursery() as nursery,
    ):
        await marks.execute("select 1")
        state: Any = Marks(marks, settings)
        worker = Worker(database, tasks, options_of(settings), state=state)
        if heeds_signals:
            await nursery.start(stop_on_signals, worker)
        await nursery.start(run, worker)
        print("ready", worker.worker_id, flush=True)
