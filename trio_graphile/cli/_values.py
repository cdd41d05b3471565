"""Reads times and durations as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter, Token

_DURATION = re.compile(r"(\d+)\s*([a-z]*)", re.IGNORECASE)
_UNITS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
}
_LONGEST_SECONDS = 315_360_000  # ten years


def parse_duration(text: str) -> float:
    """Return the seconds of `300`, `5m`, `2 hours`. Raises `ValueError`."""
    match = _DURATION.fullmatch(text.strip())
    unit = None if match is None else _UNITS.get(match[2].lower())
    if match is None or unit is None:
        raise ValueError(f'"{text}" is no duration: write whole seconds, or a number and a unit (s, m, h)')
    seconds = int(match[1]) * unit if len(match[1]) < 12 else _LONGEST_SECONDS + 1
    if seconds > _LONGEST_SECONDS:
        raise ValueError(f'"{text}" is longer than ten years')
    return float(seconds)


NOW = datetime.min.replace(tzinfo=UTC)
"""A stand-in for `now`, until the clock of the database can be read."""


def parse_time(text: str) -> datetime:
    """Return the time of `2030-01-31T08:00:00+02:00`, in UTC; `NOW` for `now`. Raises `ValueError`."""
    if text.strip().lower() == "now":
        return NOW
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f'"{text}" is no time: write now, or one such as 2030-01-31T08:00:00Z') from None
    if time.utcoffset() is None:
        raise ValueError(f'"{text}" has no time zone: write {time.isoformat()}Z, or with +02:00 and the like')
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f'"{text}" is before year 1 or after 9999 in UTC') from None


def _duration(_: type, tokens: Sequence[Token]) -> Any:
    return parse_duration(tokens[0].value)


def _time(_: type, tokens: Sequence[Token]) -> Any:
    return parse_time(tokens[0].value)


Duration: TypeAlias = Annotated[float, Parameter(converter=_duration, metavar="DURATION", n_tokens=1)]
Time: TypeAlias = Annotated[datetime, Parameter(converter=_time, metavar="TIME", n_tokens=1)]
