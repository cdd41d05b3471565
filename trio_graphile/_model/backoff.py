"""How long to wait before something is tried again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator


def backoff_delays(*, first: float = 0.05, cap: float = 30.0, factor: float = 2.0) -> Iterator[float]:
    """Yield seconds to wait, growing up to `cap` for ever, each shortened by up to half at random.

    Without the jitter, a fleet that lost its database comes back in step.
    """
    for attempt in itertools.count():
        yield min(cap, first * factor ** min(attempt, 64)) * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
