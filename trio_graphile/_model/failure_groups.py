"""Errors that begin alike, whatever numbers are in them."""

from __future__ import annotations

import re

LONGEST_GROUP = 200
"""How many characters of a line count."""

LONGEST_START = 4000
"""How many characters of an error are looked at: a stack may be long, and there are many errors."""

_DIGITS = re.compile("[0-9]+")


def error_group(last_error: str | None) -> str:
    """Return what errors of one group have in common: the first line, runs of digits folded into a `#`."""
    first, _, _ = (last_error or "")[:LONGEST_START].partition("\n")
    return _DIGITS.sub("#", first)[:LONGEST_GROUP]
