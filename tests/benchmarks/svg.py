"""Just enough SVG: bars that lie, and lines on linear or logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

import attrs

WIDTH, MARGIN, BAR, ROW = 860, 16, 14, 22
_LABELS = 340  # left of the bars
_VALUES = 70  # right of the longest
_AXIS = 64  # left of the lines
_LEGEND = 18
_LINES_HEIGHT = 260
_DASHES = ("", "6 4", "2 3", "8 3 2 3")


@attrs.frozen
class Bar:
    """One value and whose it is."""

    label: str
    value: float
    color: str


@attrs.frozen
class Line:
    """What one contender gave, as x and y."""

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    dashes: int = 0
    """Which of a few patterns tells it from others of this color."""


@attrs.frozen
class Panel:
    """A part of the picture: how high it is, and its elements, drawn from their own origin."""

    height: float
    elements: Sequence[str]


def picture(panels: Sequence[Panel]) -> str:
    """Return the panels below each other."""
    body, top = [], float(MARGIN)
    for panel in panels:
        body.append(f'<g transform="translate({MARGIN} {top:.0f})">{"".join(panel.elements)}</g>')
        top += panel.height + 2 * MARGIN
    width = WIDTH + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top:.0f}" '
        f'viewBox="0 0 {width} {top:.0f}" font-family="sans-serif" font-size="12" fill="#222">\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def bars(title: str, values: Sequence[Bar]) -> Panel:
    """Draw values as bars, each with its figure."""
    longest = max((bar.value for bar in values), default=0) or 1
    scale = (WIDTH - _LABELS - _VALUES) / longest
    elements = [_heading(title)]
    for number, bar in enumerate(values):
        y = 2 * MARGIN + number * ROW
        elements.append(_text(bar.label, _LABELS - 8, y + BAR - 3, anchor="end"))
        elements.append(
            f'<rect x="{_LABELS}" y="{y}" width="{max(1, bar.value * scale):.1f}" height="{BAR}" '
            f'fill="{bar.color}"/>'
        )
        elements.append(_text(_short(bar.value), _LABELS + bar.value * scale + 6, y + BAR - 3))
    return Panel(2 * MARGIN + len(values) * ROW, elements)


def lines(title: str, drawn: Sequence[Line], *, x_title: str, is_x_logarithmic: bool = False) -> Panel:
    """Draw lines from a y of zero upward."""
    points = [point for line in drawn for point in line.points]
    place_x, x_ticks = _axis([x for x, _ in points], _AXIS, WIDTH, is_logarithmic=is_x_logarithmic)
    top = 2 * MARGIN
    place_y, y_ticks = _axis([0.0, *(y for _, y in points)], top + _LINES_HEIGHT, top, is_logarithmic=False)
    elements = [_heading(title)]
    for tick in y_ticks:
        y = place_y(tick)
        elements.append(
            f'<line x1="{_AXIS}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}" stroke="#ddd" stroke-width="1"/>'
        )
        elements.append(_text(_short(tick), _AXIS - 8, y + 4, anchor="end"))
    bottom = top + _LINES_HEIGHT + _LEGEND
    for tick in x_ticks:
        is_last = place_x(tick) > WIDTH - MARGIN
        elements.append(_text(_short(tick), place_x(tick), bottom, anchor="end" if is_last else "middle"))
    elements.append(_text(x_title, WIDTH, bottom + _LEGEND, anchor="end"))
    for number, line in enumerate(drawn):
        elements += _line(line, place_x, place_y, bottom + (number + 1) * _LEGEND)
    return Panel(bottom + (len(drawn) + 1) * _LEGEND, elements)


def _line(
    line: Line, place_x: Callable[[float], float], place_y: Callable[[float], float], legend: float
) -> Iterator[str]:
    style = f'fill="none" stroke="{line.color}" stroke-width="2"'
    if dashes := _DASHES[line.dashes % len(_DASHES)]:
        style += f' stroke-dasharray="{dashes}"'
    places = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in line.points)
    yield f'<polyline points="{places}" {style}/>'
    yield f'<line x1="{_AXIS}" y1="{legend - 4}" x2="{_AXIS + 32}" y2="{legend - 4}" {style}/>'
    yield _text(line.label, _AXIS + 40, legend)


def _axis(
    values: Sequence[float], begin: float, end: float, *, is_logarithmic: bool
) -> tuple[Callable[[float], float], list[float]]:
    """Return where a value lies between begin and end, and at which values there are marks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if is_logarithmic:
        ticks = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
        ticks = [tick for tick in ticks if low <= tick <= high]
        low, high = math.log10(low), math.log10(high)
    else:
        ticks = _round_steps(low, high)
        high = max(high, ticks[-1])
    span = (high - low) or 1.0

    def place(value: float) -> float:
        at = math.log10(value) if is_logarithmic else value
        return begin + (at - low) / span * (end - begin)

    return place, ticks


def _round_steps(low: float, high: float) -> list[float]:
    """Return about five round values that cover what lies between."""
    step = 10.0 ** math.floor(math.log10((high - low) or 1.0))
    for finer in (5, 2):
        if (high - low) / step < 4:
            step /= finer if (high - low) / step < 2 else 2
            break
    return [low + number * step for number in range(math.ceil((high - low) / step) + 1)]


def _heading(title: str) -> str:
    return f'<text x="0" y="14" font-weight="bold" font-size="14">{escape(title)}</text>'


def _text(text: str, x: float, y: float, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"


def palette(names: Sequence[str], first: Mapping[str, str]) -> dict[str, str]:
    """Give each name a color; those in `first` have theirs."""
    colors = ("#4477aa", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#997700", "#999933", "#555555")
    others = [name for name in names if name not in first]
    return {**first, **{name: colors[number % len(colors)] for number, name in enumerate(others)}}
