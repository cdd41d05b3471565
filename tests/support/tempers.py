"""Handlers of the tempers that several fleets have, and a registry that breaks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

import trio

from trio_graphile import Job, JobContext, Snooze, TaskRegistry

Handling: TypeAlias = Callable[[Job], AbstractContextManager[None]]
"""What notes that a job begins, and how it ends."""


def add_tempers(tasks: TaskRegistry, handling: Handling) -> None:
    """Add the tasks `instant`, `failing`, `family` and `asking`."""

    @tasks.task("instant")
    async def instant(context: JobContext) -> None:
        with handling(context.job):
            pass

    @tasks.task("failing")
    async def failing(context: JobContext) -> None:
        with handling(context.job):
            await trio.lowlevel.checkpoint()
            raise RuntimeError("as it should")

    @tasks.task("family")
    async def family(context: JobContext) -> None:
        """Its own nursery turns a cancellation into a group."""
        with handling(context.job):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)
                nursery.start_soon(trio.lowlevel.checkpoint)

    @tasks.task("asking")
    async def asking(context: JobContext) -> None:
        with handling(context.job):
            await context.database.fetch_value("select 1")


def add_threaded(tasks: TaskRegistry, handling_in_thread: Handling) -> None:
    """Add the task `threaded`, which calls back into Trio."""

    @tasks.task("threaded")
    def threaded(context: JobContext) -> None:
        with handling_in_thread(context.job):
            context.run(trio.lowlevel.checkpoint)


def add_endings(tasks: TaskRegistry) -> None:
    """Add the tasks `sleepy`, which asks to run later, and `slow`, which runs out of time."""

    @tasks.task("sleepy")
    async def sleepy() -> None:
        raise Snooze(60)

    @tasks.task("slow", timeout=0.01)
    async def slow() -> None:
        await trio.sleep_forever()


class FailingRegistry(TaskRegistry):
    """A registry that breaks: the service that asks it next fails, for no reason that passes."""

    broken = False

    @property
    def identifiers(self) -> tuple[str, ...]:
        if self.broken:
            raise LookupError("the registry is broken")
        return super().identifiers
