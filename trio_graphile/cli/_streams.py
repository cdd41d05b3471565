"""The standard streams: always open, and able to write every text."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

_ESCAPING = "trio_graphile.escaping"


def open_standard_streams() -> None:
    """Open closed standard streams on nothing; otherwise the next file or pipe would get their numbers.

    Call it before anything else is opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
        os.set_inheritable(number, True)  # noqa: FBT003  # the function has no other way
        stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115  # for good
        setattr(sys, name, stream)


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


_HARMFUL = (
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
"""Characters that move the cursor, set the title, or turn the direction of a terminal, except tabs and new
lines."""
_HARMLESS = {number: escaped(chr(number)) for number in _HARMFUL}


def harmless(text: str, stream: TextIO | None = None) -> str:
    """Return a text that a terminal only shows, with no other effect. For other outputs it stays as it is.

    The stream defaults to standard output.
    """
    return text.translate(_HARMLESS) if (stream or sys.stdout).isatty() else text


def decoded_arguments(arguments: Sequence[str]) -> list[str]:
    """Return arguments as UTF-8, even if the locale has only ASCII."""
    return [os.fsencode(argument).decode(errors="surrogateescape") for argument in arguments]
