"""The output of commands: tables on a terminal, tab-separated values through a pipe, JSON on demand."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import attrs

from trio_graphile._model.verbatim import encode_shown, format_time
from trio_graphile.cli._streams import harmless

_NOTHING = "-"


def print_json(value: object) -> None:
    """Print a value as JSON; times are RFC 3339, payloads exactly what is stored."""
    print(harmless(encode_shown(value, indent=2)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows below the names of their columns: as a table on a terminal, otherwise tab-separated."""
    texts = [[harmless(as_text(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *texts]:
            print("\t".join(" ".join(text.split()) for text in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, header_style="bold", pad_edge=False)
    for row in texts:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))  # without markup
    Console().print(table)


_STYLES = {"failed": "red", "locked": "yellow", "ready": "green", "scheduled": "cyan", _NOTHING: "dim"}


def as_text(value: object) -> str:
    """Return a value as text for people."""
    match value:
        case None:
            return _NOTHING
        case bool():
            return "yes" if value else "no"
        case datetime():
            return format_time(value)
        case list() | tuple() | dict():
            return ", ".join(map(str, value)) or _NOTHING
        case _:
            return str(value)


@attrs.frozen
class LinePrinter:
    """Prints the progress of a program that runs for long, a line at a time, as text or as JSON."""

    as_json: bool = False

    @property
    def on_terminal(self) -> bool:
        """Whether people watch, so that a table may stay on the terminal."""
        return sys.stdout.isatty() and not self.as_json

    def print_line(self, event: str, text: str, **fields: object) -> None:
        """Print that something has happened. A pipe gets the line at once."""
        if self.as_json:
            line = {"at": datetime.now(UTC), "event": event, **fields, "text": text}
            text = json.dumps(line, ensure_ascii=False, default=_plain)
        with contextlib.suppress(OSError):  # a worker goes on without a reader
            sys.stdout.write(f"{text}\n")  # in one call, since other processes may write there, too
            sys.stdout.flush()


def _plain(part: object) -> object:
    return format_time(part) if isinstance(part, datetime) else str(part)


def note(text: str) -> None:
    """Print a note beside the result, on standard error."""
    print(f"trio-graphile: {harmless(text, sys.stderr)}", file=sys.stderr)
