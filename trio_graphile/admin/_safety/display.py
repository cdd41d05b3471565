"""Text from rows, safe to show: invisible characters, and those that turn text around, become escapes."""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x1f\x7f-\x9f"
_SEPARATORS = "\u2028\u2029"
_FORMATS = (
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
# Fillers, variation selectors and the like: letters by their category, yet invisible.
_BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff"
_HALVES = "\ud800-\udfff"
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)

_HIDDEN = re.compile(f"[{_CONTROLS}{_SEPARATORS}{_FORMATS}{_BLANKS}{_HALVES}{_NONCHARACTERS}]")
_NO_LINE_OR_TAB = re.compile(f"(?![\n\t]){_HIDDEN.pattern}")


def visible(text: str) -> str:
    r"""Return a text of one line, in which `\u202e` and the like appear as escapes."""
    return _HIDDEN.sub(_escape, text)


def visible_lines(text: str) -> str:
    """Return a text likewise, but keep line feeds and tabs."""
    return _NO_LINE_OR_TAB.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
