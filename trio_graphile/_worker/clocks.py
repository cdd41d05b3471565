"""Clocks: one of ours that never stops, and the server's, watched by it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial

import attrs

from trio_graphile._database.connection import Executor

logger = logging.getLogger("trio_graphile.worker")

_TOLERANCE = 0.1
"""By what share of the silence that means death a clock may be off."""


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

    _period: float
    """How long a silence means death, in seconds: so long it takes until a step of the clock is forgotten."""
    _clock: Callable[[], float] = attrs.field(factory=find_clock)
    _asked_at: float | None = attrs.field(init=False, default=None)
    """When the last reading began, by our clock."""
    _read: float = attrs.field(init=False, default=0.0)
    """What the server's clock said."""
    _steady_since: float = attrs.field(init=False, default=-math.inf)

    async def is_steady(self, executor: Executor) -> bool:
        """Whether silence and the age of locks mean what they say: the server's clock was not set forward.

        For a while after that they do not: whoever lives gets the time to renew what it holds.
        """
        steady_for = await self._steady_for(executor)
        if steady_for < self._period:
            left = self._period - steady_for
            logger.warning("the server's clock was set forward: nobody is taken for dead for %.0f s", left)
        return steady_for >= self._period

    async def _steady_for(self, executor: Executor) -> float:
        """Read it; return for how long it has gone no faster than ours, in seconds, as far as we know."""
        asked_at = self._clock()
        read = await executor.fetch_value(READ_CLOCK)
        now = self._clock()
        # However long either answer was on its way, no more time than this has passed between the readings.
        passed = now - (asked_at if self._asked_at is None else self._asked_at)
        if self._asked_at is not None and read - self._read > passed + self._period * _TOLERANCE:
            self._steady_since = now
        self._asked_at, self._read = asked_at, read
        return now - self._steady_since
