"""Clocks: one of ours that never stops, and the server's, watched by it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import attrs

from trio_graphile._database.connection import Executor


def find_clock() -> Callable[[], float]:
    """Return a clock that goes on while the machine sleeps, as the age of our locks does."""
    number = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if number is None else partial(time.clock_gettime, number)


READ_CLOCK = "select extract(epoch from clock_timestamp())::float8"


@attrs.define(eq=False)
class ServerClock:
    """Notices when the server's clock was set forward.

    Whoever lives looks as if long silent then, until it has shown life again. So it is, too, after a failover
    to a server whose clock is ahead.
    """

    _clock: Callable[[], float] = attrs.field(factory=find_clock)
    _asked_at: float | None = None
    """When the last reading began, by our clock."""
    _read: float = 0.0
    """What the server's clock said."""
    _steady_since: float = -math.inf

    async def steady_for(self, executor: Executor, *, tolerance: float) -> float:
        """Read it; return for how long it has gone no faster than ours, in seconds, as far as we know."""
        asked_at = self._clock()
        read = await executor.fetch_value(READ_CLOCK)
        now = self._clock()
        # However long either answer was on its way, no more time than this has passed between the readings.
        if self._asked_at is not None and read - self._read > now - self._asked_at + tolerance:
            self._steady_since = now
        self._asked_at, self._read = asked_at, read
        return now - self._steady_since
