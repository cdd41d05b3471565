"""Clocks: a clock of ours that never stops, and the clock of the server, which is compared with it."""

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
"""How far the two clocks may differ, as a share of the period after which a silent worker counts as dead."""


def find_clock() -> Callable[[], float]:
    """Return a clock, in seconds, that goes on while the machine sleeps: the age of our locks does, too."""
    number = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if number is None else partial(time.clock_gettime, number)


READ_CLOCK = "select extract(epoch from clock_timestamp())::float8"


@attrs.define(eq=False)
class ServerClock:
    """Notices when the clock of the server was set forward.

    Workers that are alive then look as if they had been silent for long, until their next heartbeat. A
    failover to a server whose clock is ahead has the same effect.
    """

    _period: float
    """How long a worker has to be silent to count as dead, in seconds. After a step of the clock, the clock
    counts as unsteady for the same time."""
    _clock: Callable[[], float] = attrs.field(factory=find_clock)
    _asked_at: float | None = attrs.field(init=False, default=None)
    """When the last reading began, by our clock; None before the first."""
    _read: float = attrs.field(init=False, default=0.0)
    """The last reading of the server's clock, in seconds."""
    _steady_since: float = attrs.field(init=False, default=-math.inf)

    async def is_steady(self, executor: Executor) -> bool:
        """Whether the age of heartbeats and of locks can be trusted: the server's clock was not set forward.

        After a step it cannot be for one period, in which workers that are alive renew what they hold.
        """
        steady_for = await self._steady_for(executor)
        if steady_for < self._period:
            left = self._period - steady_for
            logger.warning("the server's clock was set forward: no worker counts as dead for %.0f s", left)
        return steady_for >= self._period

    async def _steady_for(self, executor: Executor) -> float:
        """Read the clock; return for how many seconds it has gone no faster than ours, as far as we know."""
        asked_at = self._clock()
        read = await executor.fetch_value(READ_CLOCK)
        now = self._clock()
        # The longest time that can have passed between the two readings, whatever each answer has taken.
        passed = now - (asked_at if self._asked_at is None else self._asked_at)
        if self._asked_at is not None and read - self._read > passed + self._period * _TOLERANCE:
            self._steady_since = now
        self._asked_at, self._read = asked_at, read
        return now - self._steady_since
