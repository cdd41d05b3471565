"""Groups of errors that begin alike, apart from the numbers in them."""

from __future__ import annotations

import re

LONGEST_GROUP = 200
"""How many characters of the first line count."""

LONGEST_START = 4000
"""How many characters of an error are read: a stack may be long, and there may be many errors."""

_DIGITS = re.compile("[0-9]+")


def error_group(last_error: str | None) -> str:
    """Return the text that errors of one group share: the first line, with each run of digits as a `#`."""
    first, _, _ = (last_error or "")[:LONGEST_START].partition("\n")
    return _DIGITS.sub("#", first)[:LONGEST_GROUP]
