"""Idle slots: how many are woken when jobs come, and when a slot gives way to others."""

# A worker has as many slots as it may run jobs at once. A slot is a Trio task that takes one job after the
# other. To wake a slot takes longer than to run many a job, and so does a turn of the event loop. So:
#
# 1. A slot that finds a job takes it without a turn of the event loop. After a stretch of 0.3 ms it gives
#    way, so that claims, records and other slots have their turn.
# 2. When jobs come, only a few idle slots are woken, and each that takes a job wakes further ones. How many
#    are on their way at a time begins at 1, and doubles each time that a woken slot finds a job.
# 3. While a slot gives way, a woken slot takes no job: the first is about to take it, and wakes others if
#    there are more.

from __future__ import annotations

import math
import time

import attrs
import trio

_LONGEST_STRETCH = 0.0003
"""For how long slots may take jobs without giving way, in seconds."""
_MOST_WAKING = 8
"""The largest number of slots that are on their way at a time."""


@attrs.define(eq=False)
class IdleSlots:
    """The slots that wait for a job."""

    _parked: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    waking: int = attrs.field(init=False, default=0)
    """How many slots are on their way: they were woken and have not run yet."""
    most_waking: int = attrs.field(init=False, default=1)
    """How many may be on their way at a time."""
    stretch_ends_at: float = attrs.field(init=False, default=-math.inf)
    """Until when a slot may take jobs without giving way, by `time.monotonic`."""
    giving_way: int = attrs.field(init=False, default=0)
    """How many slots give way at this moment, and take a job then."""

    def __len__(self) -> int:
        return len(self._parked)

    async def give_way(self) -> None:
        """Let other Trio tasks have their turn, and begin a new stretch."""
        self.giving_way += 1
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self.giving_way -= 1
        self.begin_stretch()

    def begin_stretch(self) -> None:
        """Begin a new stretch: other Trio tasks have just had their turn."""
        self.stretch_ends_at = time.monotonic() + _LONGEST_STRETCH

    async def wait(self) -> None:
        """Wait to be woken."""
        await self._parked.park()
        self.waking -= 1

    def wake(self, jobs: int) -> None:
        """Wake a few slots for `jobs` jobs that are held; each wakes more when it takes one."""
        if self.waking < self.most_waking and self._parked:
            count = min(self.most_waking - self.waking, jobs)
            self.waking += len(self._parked.unpark(count=count))

    def wake_all(self) -> None:
        """Wake all slots: no more jobs will come."""
        self.waking += len(self._parked.unpark_all())

    def found_work(self) -> None:
        """Double how many may be on their way: a woken slot has found a job."""
        self.most_waking = min(2 * self.most_waking, _MOST_WAKING)

    def found_none(self) -> None:
        """Wake one at a time from now on: a slot was woken for a job that another is about to take."""
        self.most_waking = 1
