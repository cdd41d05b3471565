"""The output of commands: tables on a terminal, tab-separated values through a pipe, JSON on demand."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from trio_graphile._model.verbatim import encode_shown, format_time
from trio_graphile.cli._streams import harmless

if TYPE_CHECKING:  # imported only when there is a terminal
    from rich.table import Table
    from rich.text import Text

_NOTHING = "-"


def print_json(value: object) -> None:
    """Print a value as JSON; times are RFC 3339, payloads exactly what is stored."""
    print(harmless(encode_shown(value, indent=2)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows below the names of their columns: as a table on a terminal, otherwise tab-separated.

    Nothing is cut: for a terminal that is too narrow, each row becomes a list of names and values.
    """
    texts = [[harmless(as_text(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *texts]:
            print("\t".join(" ".join(text.split()) for text in row))
        return
    from rich.console import Console

    console = Console()
    is_too_wide = _narrowest(columns, texts) > console.width
    console.print(_lists(columns, texts) if texts and is_too_wide else _table(columns, texts))


_PROSE_WIDTH = 20
"""The width in which text of several words can still be read."""
_LINE_WIDTH = 3
"""The width of the line between two columns, with a space on either side."""


def _narrowest(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> int:
    """Return how wide a table must be at least, if only text of several words may be wrapped."""
    from rich.cells import cell_len

    widths = [
        _PROSE_WIDTH if _is_prose(cells) else max(map(cell_len, [name, *cells]))
        for name, cells in _by_column(columns, texts)
    ]
    return sum(widths) + _LINE_WIDTH * len(widths)


def _is_prose(cells: Iterable[str]) -> bool:
    return any(" " in text for text in cells)


def _by_column(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> Iterator[tuple[str, list[str]]]:
    for number, name in enumerate(columns):
        yield name, [row[number] for row in texts]


def _table(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> Table:
    """Return a table in which only text of several words is wrapped."""
    from rich.table import Table

    table = Table(header_style="bold", pad_edge=False)
    for name, cells in _by_column(columns, texts):
        table.add_column(name, overflow="fold", no_wrap=bool(cells) and not _is_prose(cells))
    for row in texts:
        table.add_row(*map(_styled, row))
    return table


def _lists(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> Table:
    """Return the values of each row below each other, beside the names of their columns."""
    from rich.table import Table

    table = Table(show_header=False, pad_edge=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for row in texts:
        for name, text in zip(columns, row, strict=True):
            table.add_row(name, _styled(text))
        table.add_section()
    return table


def _styled(text: str) -> Text:
    """Return a text in its colour; it may look like markup, and is none."""
    from rich.text import Text

    return Text(text, style=_STYLES.get(text, ""))


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
