"""How long to wait before something is tried again."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator


def backoff_delays(*, first: float = 0.05, cap: float = 30.0, factor: float = 2.0) -> Iterator[float]:
    """Yield seconds to wait, growing up to `cap` for ever, each shortened by up to half at random.

    Without the jitter, a fleet that lost its database comes back in step.
    """
    for attempt in itertools.count():
        yield min(cap, first * factor ** min(attempt, 64)) * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)


def retry_delay(attempts: int) -> float:
    """Return for how many seconds the database lets a job wait that has failed and was tried so often."""
    return math.exp(max(0, min(attempts, CONSTANT_FROM)))


CONSTANT_FROM = 10
"""From how many attempts on the delay grows no more."""
