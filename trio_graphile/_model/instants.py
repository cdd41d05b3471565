"""Instants that may lie beyond what Python has: reading them from PostgreSQL, showing and moving them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

FIRST = datetime.min.replace(tzinfo=UTC)
"""It also stands for all times before year 1."""
LAST = datetime.max.replace(tzinfo=UTC)
"""It also stands for all times after the year 9999."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def time_of(seconds: float) -> datetime: ...
@overload
def time_of(seconds: float | None) -> datetime | None: ...
def time_of(seconds: float | None) -> datetime | None:
    """Return the time so many seconds after 1970 began, to the microsecond.

    PostgreSQL has more times than Python. Times before year 1, after 9999, and both infinities become the
    first and the last that Python has.
    """
    if seconds is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=round(seconds * 1e6))
    except OverflowError:
        return LAST if seconds > 0 else FIRST


def shown(at: datetime) -> str:
    """Return a time as people read it, in UTC."""
    if at in (FIRST, LAST):
        return "ever" if at == FIRST else "never"
    return f"{at.astimezone(UTC).isoformat(' ', 'seconds').removesuffix('+00:00')} UTC"


def moved(at: datetime, seconds: float) -> datetime:
    """Return the instant so many seconds later; beyond what Python has, its last or first instant."""
    try:
        return at if at in (FIRST, LAST) else at + timedelta(seconds=seconds)
    except OverflowError:
        return LAST if seconds > 0 else FIRST
