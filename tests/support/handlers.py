"""Handlers that a test can watch and hold."""

from __future__ import annotations

import attrs
import trio

from tests.support.waiting import wait_for_ring
from trio_graphile import Job, JobContext, TaskRegistry
from trio_graphile._model.bell import Bell


@attrs.define(eq=False)
class Handlers:
    """Notes each run, which waits where the test says so."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    started: list[Job] = attrs.field(factory=list)
    ended: list[Job] = attrs.field(factory=list)
    cancelled: list[Job] = attrs.field(factory=list)
    most_at_once: int = 0
    release: trio.Event = attrs.field(factory=trio.Event)
    _changed: Bell = attrs.field(factory=Bell)

    def __attrs_post_init__(self) -> None:
        @self.tasks.task("quick")
        async def quick(context: JobContext) -> None:
            self.start(context)
            self.end(context)

        @self.tasks.task("held")
        async def held(context: JobContext) -> None:
            self.start(context)
            try:
                await self.release.wait()
            except trio.Cancelled:
                self.cancelled.append(context.job)
                self.note()
                raise
            self.end(context)

        @self.tasks.task("failing")
        async def failing(context: JobContext) -> None:
            self.start(context)
            raise ValueError("no such luck")

    def start(self, context: JobContext) -> None:
        self.started.append(context.job)
        self.most_at_once = max(self.most_at_once, len(self.started) - len(self.ended))
        self.note()

    def end(self, context: JobContext) -> None:
        self.ended.append(context.job)
        self.note()

    def note(self) -> None:
        self._changed.ring()

    async def wait_started(self, count: int) -> None:
        await wait_for_ring(self._changed, lambda: len(self.started) >= count)

    async def wait_cancelled(self, count: int) -> None:
        await wait_for_ring(self._changed, lambda: len(self.cancelled) >= count)

    async def wait_ended(self, count: int) -> None:
        await wait_for_ring(self._changed, lambda: len(self.ended) >= count)
