"""The standard streams: open in any case, and able to write whatever is to be written."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Sequence

_ESCAPING = "trio_graphile.escaping"


def open_standard_streams() -> None:
    """Open those that are closed, on nothing: else the next file or pipe would get the number of one of them.

    To be called before anything else is opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # which gets the lowest number that is free
        os.set_inheritable(number, True)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))


def write_what_cannot_be_encoded() -> None:
    """Escape what the encoding of standard output lacks, as JSON does: what is JSON stays JSON."""
    codecs.register_error(_ESCAPING, _escape)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPING)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(escaped, text)), error.end


def escaped(character: str) -> str:
    """Return a character as JSON escapes it."""
    if ord(character) < 0x10000:
        return f"\\u{ord(character):04x}"
    offset = ord(character) - 0x10000
    return f"\\u{0xD800 + (offset >> 10):04x}\\u{0xDC00 + (offset & 0x3FF):04x}"


def decoded_arguments(arguments: Sequence[str]) -> list[str]:
    """Return arguments as UTF-8, which they are whatever a locale without letters says."""
    return [os.fsencode(argument).decode(errors="surrogateescape") for argument in arguments]
