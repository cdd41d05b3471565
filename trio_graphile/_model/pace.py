"""How many rows one statement writes: as many as it can write in a moment, whatever a row costs."""

from __future__ import annotations

import attrs

LARGEST_BATCH = 2000
_CAUTIOUS = 16
_QUICK = 0.25
_SLOW = 1.0


@attrs.define
class Pace:
    """Learns from each batch how large the next may be. Times are seconds."""

    size: int = LARGEST_BATCH

    def wrote(self, count: int, seconds: float) -> None:
        """Take notice of a batch that was written: what was quick may be twice as much the next time."""
        if seconds > _SLOW:
            self.failed(count)
        elif seconds < _QUICK and count >= self.size:
            self.size = min(2 * self.size, LARGEST_BATCH)

    def failed(self, count: int) -> None:
        """Take notice of a batch that was not written: half of it may be, and half of that."""
        self.size = max(1, count // 2)

    def be_cautious(self) -> None:
        """Begin with few rows: time is short, and nobody knows what a row costs."""
        self.size = min(self.size, _CAUTIOUS)
