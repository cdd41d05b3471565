"""Delays before something is tried again."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator


def backoff_delays(*, first: float = 0.05, cap: float = 30.0, factor: float = 2.0) -> Iterator[float]:
    """Yield delays in seconds, growing up to `cap`, without end; each is shortened by up to half at random.

    Without the jitter, all workers that lost their database would come back at the same moment.
    """
    for attempt in itertools.count():
        yield min(cap, first * factor ** min(attempt, 64)) * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)


def retry_delay(attempts: int) -> float:
    """Return after how many seconds the database retries a job that has failed so many times."""
    return math.exp(max(0, min(attempts, CONSTANT_FROM)))


CONSTANT_FROM = 10
"""The number of attempts from which on the delay no longer grows."""
