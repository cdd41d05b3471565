"""Checks that PostgreSQL can store a text."""

from __future__ import annotations

from trio_graphile._exceptions import OptionInvalid


def flaw_of(text: str) -> str | None:
    """Return why PostgreSQL cannot store a text; None if it can."""
    if "\0" in text:
        return "PostgreSQL cannot hold a NUL character"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{text[error.start]!r} is half of a character, which PostgreSQL cannot hold"
    return None


def check_text(option: str, value: object) -> None:
    """Raise `OptionInvalid` unless the value is a text that PostgreSQL can store."""
    if not isinstance(value, str):
        raise OptionInvalid(option, f"a string is needed, not {value!r}")
    if flaw := flaw_of(value):
        raise OptionInvalid(option, flaw)
