"""Workers that run beside a test, and what a test can wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import attrs
import trio

from trio_graphile import Database, ShutdownOptions, ShutdownReport, TaskRegistry, Worker, WorkerOptions
from trio_graphile._worker.bell import Bell

NEVER = 600.0
"""A poll interval that no test lives to see."""
PATIENCE = 20
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


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what tells nobody when it changes."""
    with trio.fail_after(PATIENCE):
        while True:
            if condition():
                return
            await trio.lowlevel.checkpoint()


async def payloads(database: Database) -> list[str]:
    rows = await database.fetch("""
        select payload::text
        from graphile_worker._private_jobs
        order by id
    """)
    return [row["payload"] for row in rows]


class Notices(logging.Handler):
    """What the library logs, to be waited for."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._token = trio.lowlevel.current_trio_token()
        self._texts: list[str] = []
        self._changed = Bell()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(trio.RunFinishedError):  # it may come from another thread
            self._token.run_sync_soon(partial(self._note, record.getMessage()))

    def _note(self, text: str) -> None:
        self._texts.append(text)
        self._changed.ring()

    async def wait_for(self, text: str) -> None:
        with trio.fail_after(PATIENCE):
            while not any(text in logged for logged in self._texts):
                await self._changed.wait()


@contextmanager
def noticing() -> Iterator[Notices]:
    notices, logger = Notices(), logging.getLogger("trio_graphile")
    logger.addHandler(notices)
    try:
        yield notices
    finally:
        logger.removeHandler(notices)
