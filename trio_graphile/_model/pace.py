"""How many rows one statement writes: as many as it can write in a moment, whatever a row costs."""

from __future__ import annotations

import attrs

LARGEST_BATCH_SIZE = 2000  # outcomes in one statement
_CAUTIOUS_SIZE = 16  # outcomes in the next statement, after one that was refused
_QUICK_SECONDS = 0.25
_SLOW_SECONDS = 1.0


@attrs.define
class Pace:
    """Learns from each batch how large the next may be. Times are seconds."""

    size: int = LARGEST_BATCH_SIZE

    def wrote(self, count: int, seconds: float) -> None:
        """Take notice of a batch that was written: what was quick may be twice as much the next time."""
        if seconds > _SLOW_SECONDS:
            self.failed(count)
        elif seconds < _QUICK_SECONDS and count >= self.size:
            self.size = min(2 * self.size, LARGEST_BATCH_SIZE)

    def failed(self, count: int) -> None:
        """Take notice of a batch that was not written: half of it may be, and half of that."""
        self.size = max(1, count // 2)

    def be_cautious(self) -> None:
        """Begin with few rows: time is short, and nobody knows what a row costs."""
        self.size = min(self.size, _CAUTIOUS_SIZE)
