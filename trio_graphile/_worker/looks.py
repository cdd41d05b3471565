"""Looks over the whole table of jobs: nothing indexes its locks, so the larger it is, the fewer there are."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import attrs
import trio

LARGEST_SHARE = 0.01
"""How much of one core's time a whole fleet may spend on looks of one kind."""
SECONDS_PER_BYTE = 0.7e-9
"""How long a look takes as long as none was measured: some ten seconds for a hundred million jobs."""
SHORT = 0.1
"""What takes no longer than so many seconds is not put off when a worker starts."""


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
    _random: Callable[[], float] = random.random  # noqa: S311  # not a secret
    _ended_at: float | None = attrs.field(init=False, default=None)
    """When the last look ended, by the clock; None before anybody asked."""
    _took: float = attrs.field(init=False, default=0.0)
    """How long it took, in seconds, or may have taken."""

    @contextlib.contextmanager
    def look_if_due(self, workers: int, size: int) -> Iterator[bool]:
        """Tell the body whether to look; measure how long that takes, even if it fails.

        `workers` is how many are registered now: what counts is the fleet that is there, not the one that was
        there at the last look. `size` is how many bytes have to be read. Unless it is short, the first look
        comes after a part of the pause at random, as if this worker had always been there: else it would cost
        a look of each kind to replace a worker.
        """
        began_at = self._clock()
        if self._ended_at is None:
            self._took = size * SECONDS_PER_BYTE
            passed = self._random() if self._took > SHORT else 1.0
            self._ended_at = began_at - passed * pause_after(self._took, workers)
        if began_at < self._ended_at + pause_after(self._took, workers):
            yield False
            return
        try:
            yield True
        finally:
            self._ended_at = self._clock()
            self._took = self._ended_at - began_at
