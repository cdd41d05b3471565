"""A clock that a test sets by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import trio

from tests.support.waiting import wait_for_ring
from trio_graphile._model.bell import Bell

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@attrs.define(eq=False)
class HandClock:
    """Shows a time until it is set; knows how many wait for another one."""

    time: datetime = NOON
    _was_set: trio.Event = attrs.field(factory=trio.Event)
    _waiting: int = 0
    _changed: Bell = attrs.field(factory=Bell)

    def now(self) -> datetime:
        return self.time

    async def wait_until(self, at: datetime) -> None:
        if self.time >= at:
            await trio.lowlevel.checkpoint()
            return
        was_set = self._was_set
        self._waiting += 1
        self._changed.ring()
        try:
            await was_set.wait()
        finally:
            if was_set is self._was_set:
                self._waiting -= 1

    async def set(self, at: datetime, *, waiting: int = 1) -> None:
        """Show another time, and wait until so many have seen it and have nothing left to do."""
        self.time = at
        self._waiting = 0
        self._was_set.set()
        self._was_set = trio.Event()
        await self.wait_idle(waiting)

    async def advance(self, seconds: float, *, waiting: int = 1) -> None:
        await self.set(self.time + timedelta(seconds=seconds), waiting=waiting)

    async def wait_idle(self, waiting: int = 1) -> None:
        await wait_for_ring(self._changed, lambda: self._waiting >= waiting)
