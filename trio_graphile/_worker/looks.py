"""Looks over the whole table of jobs: nothing indexes its locks, so the larger it is, the fewer there are."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import attrs
import trio

LARGEST_SHARE = 0.01
"""How much of one core's time a whole fleet may spend on looks of one kind."""


def pause_after(seconds: float, workers: int) -> float:
    """Return how many seconds after its last look, which took `seconds`, one of the workers may look again.

    So the fleet looks about as often, however many workers it has.
    """
    return seconds * max(workers, 1) / LARGEST_SHARE


@attrs.define(eq=False)
class Looks:
    """Knows when this worker may take the next look of one kind."""

    _clock: Callable[[], float] = trio.current_time
    """In seconds."""
    _ended_at: float = attrs.field(init=False, default=-math.inf)
    """When the last look ended, by the clock."""
    _took: float = attrs.field(init=False, default=0.0)
    """How long it took, in seconds."""

    @contextlib.contextmanager
    def look_if_due(self, workers: int) -> Iterator[bool]:
        """Tell the body whether to look; measure how long that takes, even if it fails.

        `workers` is how many are registered now: what counts is the fleet that is there, not the one that was
        there at the last look.
        """
        began_at = self._clock()
        if began_at < self._ended_at + pause_after(self._took, workers):
            yield False
            return
        try:
            yield True
        finally:
            self._ended_at = self._clock()
            self._took = self._ended_at - began_at
