"""Tasks whose jobs end in every way, and a worker that runs them once."""

from __future__ import annotations

from typing import Any

import attrs

from tests.support.tempers import add_endings
from trio_graphile import Database, JobContext, PermanentFailure, TaskRegistry, Worker, WorkerOptions
from trio_graphile.hooks import Plugin


@attrs.define(eq=False)
class Lives:
    """Tasks that end in every way, and what their handlers saw."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    ran: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        add_endings(self.tasks)

        @self.tasks.task("good")
        async def good() -> None:
            self.ran.append("good")

        @self.tasks.task("bad")
        async def bad() -> None:
            self.ran.append("bad")
            raise ValueError("no such luck")

        @self.tasks.task("hopeless")
        async def hopeless() -> None:
            raise PermanentFailure("never")

        @self.tasks.task("threaded")
        def threaded() -> None:
            self.ran.append("threaded")

        @self.tasks.task("settling")
        async def settling(context: JobContext) -> None:
            async with context.complete_in_transaction():
                pass

        @self.tasks.batch_task("batch")
        async def batch(items: list[int]) -> list[BaseException | None]:
            return [None if item else ValueError("zero") for item in items]


async def run_once(database: Database, tasks: TaskRegistry, *plugins: Plugin, **options: Any) -> Worker:
    worker = Worker(database, tasks, WorkerOptions(concurrency=1, **options), plugins=plugins)
    await worker.run_once()
    return worker
