"""Formats values for pages. Texts from rows are escaped by the templates, never here."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from trio_graphile._model.diagnosis import duration as span
from trio_graphile._model.job_json import ShownJob
from trio_graphile._model.verbatim import format_time

_FEWER_DIGITS_FROM = 1000  # a number from here on is written with a unit
_COLUMNS = (
    "id",
    "task_identifier",
    "queue_name",
    "state",
    "run_at",
    "attempts",
    "max_attempts",
    "priority",
    "key",
)


def number(value: float) -> str:
    """Return a number with separated thousands."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def counted(value: int, noun: str, nouns: str | None = None) -> str:
    """Return a number of things."""
    return f"{number(value)} {noun if value == 1 else nouns or f'{noun}s'}"


def rounded(value: int) -> str:
    """Return an estimate with three digits: more would feign precision."""
    if abs(value) < _FEWER_DIGITS_FROM:
        return str(value)
    unit = 10 ** (int(math.log10(abs(value))) - 2)
    return number(round(value / unit) * unit)


def size(value: int) -> str:
    """Return a number of bytes with a unit."""
    if value < 1024:
        return counted(value, "byte")
    return f"{value / 1024:,.0f} KiB" if value < 1024 * 1024 else f"{value / 1024 / 1024:,.1f} MiB"


def duration(seconds: float) -> str:
    """Return a time span in words; short ones with their fraction."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else span(seconds)


def utc(at: datetime) -> str:
    """Return a time in UTC, for pages without a script that knows the reader's zone."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(at: datetime, now: datetime) -> str:
    """Return how far away a time is."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def first_line(text: str) -> str:
    """Return the first line that is not empty, cut if it is long."""
    lines = text.strip().splitlines()
    return shortened(lines[0], 400) if lines else ""


def shortened(text: str, most: int) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= most else text[: most - 1] + "…"


def columns(job: ShownJob) -> dict[str, str | int | None]:
    """Return the columns of a listed job that are copied."""
    shown = {name: getattr(job, name) for name in _COLUMNS}
    return shown | {"state": job.state.value, "run_at": format_time(job.run_at)}


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def laid_out(text: str) -> str:
    """Return JSON text with a line for each member; texts and numbers stay as stored."""
    lines: list[str] = []
    line = ""
    depth = 0
    before = ""
    for part in _TOKEN.findall(text):
        if part in "}]":
            depth -= 1
            if before not in ("{", "["):  # an empty one stays on its line
                lines.append(line)
                line = "  " * depth
        elif before in ("{", "[", ","):
            lines.append(line)
            line = "  " * depth
        line += part + (" " if part == ":" else "")
        depth += part in ("{", "[")
        before = part
    return "\n".join([*lines, line])


def sentence(text: str) -> str:
    """Return a text with its capital and full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")


FILTERS = {
    function.__name__: function
    for function in (
        number,
        counted,
        rounded,
        size,
        duration,
        utc,
        ago,
        first_line,
        shortened,
        columns,
        laid_out,
        sentence,
    )
} | {"iso": format_time}
