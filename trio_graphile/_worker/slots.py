"""Idle slots: how many are woken for the jobs that came, and when a slot gives way to others."""

# A worker has as many slots as it may run jobs at once. A slot is a Trio task that takes one job after the
# other. To wake a slot, and to let others have a turn, each cost more than to run many a job. So:
#
# 1. A slot that finds a job takes it without a turn of the event loop, for a stretch of 0.3 ms at most. Then
#    it gives way, so that claims, records and other slots have theirs.
# 2. When jobs come, only a few idle slots are woken, and each that takes a job wakes further ones. How many
#    are on their way at a time begins at 1 and doubles for as long as those who come find work.
# 3. While a slot gives way, another that came for a job leaves it alone: the first is about to go on, and
#    wakes the others if it needs help.

from __future__ import annotations

import math
import time

import attrs
import trio

_LONGEST_STRETCH = 0.0003
"""For how long slots may run brief jobs before they give way to others, in seconds."""
_MOST_WAKING = 8
"""How many slots are on their way at a time at most."""


@attrs.define(eq=False)
class IdleSlots:
    """The slots that wait for a job."""

    _parked: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    waking: int = attrs.field(init=False, default=0)
    """How many slots were woken and have not come yet."""
    most_waking: int = attrs.field(init=False, default=1)
    """How many may be on their way at a time."""
    stretch_ends_at: float = attrs.field(init=False, default=-math.inf)
    """Until when a slot may take jobs without giving way, by `time.monotonic`."""
    giving_way: int = attrs.field(init=False, default=0)
    """How many slots let others have their turn, and take a job then."""

    def __len__(self) -> int:
        return len(self._parked)

    async def give_way(self) -> None:
        """Let others have their turn, claims and records above all, and begin a new stretch."""
        self.giving_way += 1
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self.giving_way -= 1
        self.begin_stretch()

    def begin_stretch(self) -> None:
        """Take notice that others have just had their turn."""
        self.stretch_ends_at = time.monotonic() + _LONGEST_STRETCH

    async def wait(self) -> None:
        """Wait to be woken."""
        await self._parked.park()
        self.waking -= 1

    def wake(self, jobs: int) -> None:
        """Have a few slots come for so many jobs; each wakes further ones when it takes one."""
        if self.waking < self.most_waking and self._parked:
            count = min(self.most_waking - self.waking, jobs)
            self.waking += len(self._parked.unpark(count=count))

    def wake_all(self) -> None:
        """Have all come: there is nothing to wait for any more."""
        self.waking += len(self._parked.unpark_all())

    def found_work(self) -> None:
        """Take notice that a slot that was woken found a job: more may come at a time."""
        self.most_waking = min(2 * self.most_waking, _MOST_WAKING)

    def found_none(self) -> None:
        """Take notice that a slot was woken for a job that another is about to take."""
        self.most_waking = 1
