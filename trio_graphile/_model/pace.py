"""The size of batches: as many rows as one statement can write in a moment, whatever a row costs."""

from __future__ import annotations

import attrs

LARGEST_BATCH_SIZE = 2000  # outcomes in one statement
_CAUTIOUS_SIZE = 16  # outcomes in the next statement, after one that was refused
_QUICK_SECONDS = 0.25
_SLOW_SECONDS = 1.0


@attrs.define
class Pace:
    """Learns from each batch how large the next one may be. Times are seconds."""

    size: int = LARGEST_BATCH_SIZE

    def wrote(self, count: int, seconds: float) -> None:
        """Note that a batch was written. After a quick one, the next may be twice as large."""
        if seconds > _SLOW_SECONDS:
            self.failed(count)
        elif seconds < _QUICK_SECONDS and count >= self.size:
            self.size = min(2 * self.size, LARGEST_BATCH_SIZE)

    def failed(self, count: int) -> None:
        """Note that a batch was not written. The next is half as large, and so on."""
        self.size = max(1, count // 2)

    def be_cautious(self) -> None:
        """Make the next batch small: time is short, and we do not know what a row costs."""
        self.size = min(self.size, _CAUTIOUS_SIZE)
