"""What a handler raises to say what becomes of its job."""

from __future__ import annotations

from trio_graphile._exceptions import GraphileError
from trio_graphile._model.delays import check_delay


class PermanentFailure(GraphileError):
    """Raised by a handler: the job has failed for good, since another attempt would not help."""


class RetryAfter(GraphileError):
    """Raised by a handler: the job has failed, and its next attempt is due in so many seconds."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        check_delay("seconds", seconds)
        self.seconds: float = float(seconds)
        self.reason: str = str(reason)  # it may be the exception that the handler has caught
        super().__init__(seconds, self.reason)

    def __str__(self) -> str:
        return self.reason


class Snooze(GraphileError):
    """Raised by a handler: the job runs again after so many seconds, and this attempt does not count."""

    def __init__(self, seconds: float) -> None:
        check_delay("seconds", seconds)
        super().__init__(seconds)
        self.seconds: float = float(seconds)

    def __str__(self) -> str:
        return f"for {self.seconds:g} s"
