"""Workers that run beside a test, and what a test can wait for."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from tests.support.waiting import PATIENCE
from trio_graphile import Database, ShutdownOptions, ShutdownReport, TaskRegistry, Worker, WorkerOptions

NEVER = 600.0
"""A poll interval that no test lives to see."""
SOON = ShutdownOptions(grace_period=0.02, flush_timeout=60)
"""Interrupts handlers soon after a stop, and then has all the time in the world."""


def make_worker(database: Database, tasks: TaskRegistry, **options: object) -> Worker:
    defaults = WorkerOptions(concurrency=4, poll_interval=NEVER)
    return Worker(database, tasks, attrs.evolve(defaults, **options))  # type: ignore[arg-type]


@attrs.define(eq=False)
class Running:
    worker: Worker
    report: ShutdownReport | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.report = await self.worker.run(task_status=task_status)
        self.ended.set()

    async def stop(self) -> ShutdownReport:
        self.worker.stop()
        return await self.wait()

    async def wait(self) -> ShutdownReport:
        with trio.fail_after(PATIENCE):
            await self.ended.wait()
        assert self.report is not None
        return self.report


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Running]:
    """Run a worker beside the body; stop it at the end."""
    run = Running(worker)
    async with trio.open_nursery() as nursery:
        await nursery.start(run.run)
        yield run
        worker.stop()


async def heard(event: threading.Event) -> None:
    """Wait for what another thread says."""
    assert await trio.to_thread.run_sync(event.wait, PATIENCE, abandon_on_cancel=True)
