"""Charts as values: lines, axes, and the same figures as a table. Templates draw them.

Lengths are in units of the drawing. Times are shown in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import attrs

UNKNOWN = "unknown"
"""The text of a table cell where nothing was measured."""
_LARGEST = 1e15  # nothing that is counted or timed here is larger
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 8.0, 22.0
_MOST_TICKS = 4  # on the axis of values
_MOST_TIMES = 6  # on the axis of times
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS = (
    *(n * 1 for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 28)),
)


@attrs.frozen(kw_only=True)
class Series:
    """The values of one line, one for each time; None, or what is no number, leaves a gap."""

    name: str
    values: Sequence[float | None]


@attrs.frozen(kw_only=True)
class Tick:
    """A mark on an axis."""

    position: float
    label: str


@attrs.frozen(kw_only=True)
class Line:
    """One line."""

    name: str
    css_class: str
    """`line-1`, `line-2` and so on; the style sheet gives the colours."""
    path: str
    """The attribute `d` of a path; empty if nothing is known. A single point is a line of no length, which
    round line caps make visible."""
    last: str
    """The last known value, as text."""


@attrs.frozen(kw_only=True)
class ChartRow:
    """A row of the table: a time, and a cell for each line."""

    at: datetime
    cells: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Chart:
    """A chart, and the same as a table."""

    title: str
    description: str
    """A description for readers who cannot see the chart."""
    unit: str
    width: float
    height: float
    left: float = _LEFT
    right: float
    """The end of the plot; likewise the next fields."""
    top: float = _TOP
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    rows: tuple[ChartRow, ...]


@attrs.frozen(kw_only=True)
class Sparkline:
    """A small line without axes."""

    path: str
    description: str
    width: float
    height: float


def line_chart(  # all of them are needed, by name
    *,
    title: str,
    times: Sequence[datetime],
    series: Sequence[Series],
    unit: str = "",
    width: float = 640.0,
    height: float = 200.0,
) -> Chart:
    """Return a chart of values at ascending times. Each series has a value for each time."""
    right, bottom = width - _RIGHT, height - _BOTTOM
    known = [_known(one.values) for one in series]
    marks = nice_ticks([value for values in known for value in values if value is not None])
    places = [_between(at, times[0], times[-1], _LEFT, right) for at in times]
    lines = [
        _line(number, one.name, unit, places, [_height(value, marks, bottom) for value in values], values)
        for number, (one, values) in enumerate(zip(series, known, strict=True), 1)
    ]
    return Chart(
        title=title,
        description=". ".join(
            _described(one.name, values, unit) for one, values in zip(series, known, strict=True)
        ),
        unit=unit,
        width=width,
        height=height,
        right=right,
        bottom=bottom,
        x_ticks=tuple(_time_ticks(times, right)),
        y_ticks=tuple(
            Tick(position=_height(mark, marks, bottom) or 0.0, label=format_value(mark)) for mark in marks
        ),
        lines=tuple(lines),
        columns=tuple(one.name for one in series),
        rows=tuple(
            ChartRow(at=at, cells=tuple(_cell(values[index], unit) for values in known))
            for index, at in enumerate(times)
        ),
    )


def sparkline(values: Sequence[float | None], *, width: float = 96.0, height: float = 20.0) -> Sparkline:
    """Return a line through values at equal distances."""
    known = _known(values)
    marks = nice_ticks([value for value in known if value is not None])
    step = (width - 2.0) / max(1, len(known) - 1)
    heights = [_height(value, marks, height - 1.0, top=1.0) for value in known]
    return Sparkline(
        path=path_of([1.0 + index * step for index in range(len(known))], heights),
        description=_described("", known, "").strip(": "),
        width=width,
        height=height,
    )


def nice_ticks(values: Sequence[float], count: int = _MOST_TICKS) -> tuple[float, ...]:
    """Return round numbers at equal distances that enclose all values and 0."""
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    if high - low < 1e-9:
        high = 1.0
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))


def path_of(xs: Sequence[float], ys: Sequence[float | None]) -> str:
    """Return the `d` of a path through points, with a gap at each point without a height."""
    pieces: list[str] = []
    length = 0
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pieces += ["h0"] if length == 1 else []
            length = 0
            continue
        pieces.append(f"{'L' if length else 'M'}{_short(x)} {_short(y)}")
        length += 1
    return "".join(pieces + (["h0"] if length == 1 else []))


def format_value(value: float) -> str:
    """Return a number for an axis or a table: short, with letters for thousands."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1000.0 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _known(values: Sequence[float | None]) -> list[float | None]:
    return [
        value if value is not None and math.isfinite(value) and abs(value) < _LARGEST else None
        for value in values
    ]


def _line(  # noqa: PLR0917  # its own caller names them in the same words
    number: int,
    name: str,
    unit: str,
    xs: Sequence[float],
    ys: Sequence[float | None],
    values: Sequence[float | None],
) -> Line:
    last = next((value for value in reversed(values) if value is not None), None)
    return Line(name=name, css_class=f"line-{number}", path=path_of(xs, ys), last=_cell(last, unit))


def _height(value: float | None, marks: Sequence[float], bottom: float, top: float = _TOP) -> float | None:
    if value is None:
        return None
    return bottom - (value - marks[0]) / (marks[-1] - marks[0]) * (bottom - top)


def _between(at: datetime, first: datetime, last: datetime, left: float, right: float) -> float:
    whole = (last - first).total_seconds()
    return left if whole <= 0 else left + (at - first).total_seconds() / whole * (right - left)


def _time_ticks(times: Sequence[datetime], right: float) -> Iterator[Tick]:
    """Yield ticks at round times, few enough to be legible."""
    if not times:
        return
    first, last = times[0].astimezone(UTC), times[-1].astimezone(UTC)
    whole = (last - first).total_seconds()
    step = next((one for one in _STEPS if whole / one <= _MOST_TIMES), None)
    form = "%H:%M:%S" if step is not None and step < _MINUTE else "%H:%M" if whole <= 2 * _DAY else "%d %b"
    if step is None or whole <= 0:
        yield Tick(position=_LEFT, label=f"{first:{form}}")
        return
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    skipped = math.ceil((first - midnight).total_seconds() / step)
    while (at := midnight + timedelta(seconds=skipped * step)) <= last:
        yield Tick(position=_between(at, first, last, _LEFT, right), label=f"{at:{form}}")
        skipped += 1


def _described(name: str, values: Sequence[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return f"{name}: {UNKNOWN}"
    least, most, last = (_cell(value, unit) for value in (min(known), max(known), known[-1]))
    return f"{name}: from {least} to {most}, last {last}"


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    return f"{format_value(value)} {unit}".rstrip()


def _short(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
