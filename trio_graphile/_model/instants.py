"""Instants that may lie beyond what Python has: in text, and moved without overflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

FIRST = datetime.min.replace(tzinfo=UTC)
"""Also all times before year 1."""
LAST = datetime.max.replace(tzinfo=UTC)
"""Also all times after the year 9999."""


def shown(at: datetime) -> str:
    """Return a time as people read it, in UTC."""
    if at in (FIRST, LAST):
        return "ever" if at == FIRST else "never"
    return f"{at.astimezone(UTC).isoformat(' ', 'seconds').removesuffix('+00:00')} UTC"


def moved(at: datetime, seconds: float) -> datetime:
    """Return the instant so many seconds later; the last or the first that there is for one beyond."""
    try:
        return at if at in (FIRST, LAST) else at + timedelta(seconds=seconds)
    except OverflowError:
        return LAST if seconds > 0 else FIRST
