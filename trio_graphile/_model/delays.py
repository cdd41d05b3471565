"""Delays: for how long a job may wait."""

from __future__ import annotations

from trio_graphile._exceptions import OptionInvalid

_LONGEST_DELAY = 315_360_000.0  # ten years: a longer one is a mistake, and PostgreSQL cannot count them all


def is_delay(value: object) -> bool:
    """Whether the value is a number of seconds that a job can wait."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= _LONGEST_DELAY  # type: ignore[operator]  # it is a number then


def check_delay(option: str, value: object) -> None:
    """Raise `OptionInvalid` unless the value is a number of seconds that a job can wait."""
    if not is_delay(value):
        raise OptionInvalid(option, f"seconds from 0 to {_LONGEST_DELAY:.0f} are needed, not {value!r}")
