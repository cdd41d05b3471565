"""Charts as values."""

from __future__ import annotations

import itertools
import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile.admin._pages.charts import (
    UNKNOWN,
    Chart,
    Series,
    format_value,
    line_chart,
    nice_ticks,
    path_of,
    sparkline,
)

START = datetime(2026, 11, 29, 11, 58, tzinfo=UTC)
VALUES = st.floats(-1e14, 1e14)
ANY_VALUES = st.lists(st.none() | st.floats() | st.floats(0, 1e6), max_size=30)
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9])?")


def chart(*values: float | None, minutes: float = 1.0, unit: str = "") -> Chart:
    times = [START + timedelta(minutes=minutes * index) for index in range(len(values))]
    return line_chart(title="Jobs", times=times, series=[Series(name="ready", values=values)], unit=unit)


def test_a_line_goes_from_left_to_right_and_up_for_more() -> None:
    seen = chart(0, 5, 10)
    [line] = seen.lines
    assert line.path == "M48 178L338 93L628 8"
    assert (seen.left, seen.right, seen.top, seen.bottom) == (48, 628, 8, 178)
    assert [tick.label for tick in seen.y_ticks] == ["0", "5", "10"]
    assert [tick.position for tick in seen.y_ticks] == [178, 93, 8]
    assert (line.css_class, line.last) == ("line-1", "10")


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf, 1e300])
def test_what_is_unknown_is_a_gap(unknown: float | None) -> None:
    seen = chart(0, 10, unknown, 10, unknown, 0, 0)
    assert seen.lines[0].path.count("M") == 3
    assert seen.lines[0].path.count("h0") == 1
    assert [row.cells for row in seen.rows] == [
        ("0",), ("10",), (UNKNOWN,), ("10",), (UNKNOWN,), ("0",), ("0",)
    ]  # fmt: skip


def test_nothing_known_is_no_line() -> None:
    seen = chart(None, None)
    assert seen.lines[0].path == ""
    assert seen.lines[0].last == UNKNOWN
    assert seen.description == "ready: unknown"
    assert chart().x_ticks == ()
    assert chart().rows == ()


def test_one_point_is_seen_at_the_left() -> None:
    seen = chart(5)
    assert seen.lines[0].path == "M48 36.3h0"
    assert [tick.label for tick in seen.x_ticks] == ["11:58:00"]


def test_those_who_do_not_see_it_are_told() -> None:
    seen = chart(3, 1, None, 2.5, unit="s")
    assert seen.description == "ready: from 1 s to 3 s, last 2.5 s"
    assert seen.columns == ("ready",)
    assert seen.rows[0].at == START
    assert seen.rows[3].cells == ("2.5 s",)


@pytest.mark.parametrize(
    ("minutes", "count", "labels"),
    [
        (1, 61, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50"]),
        (10, 145, ["12:00", "18:00", "00:00", "06:00"]),
        (1440, 8, ["01 Dec", "03 Dec", "05 Dec"]),
        (0.1, 10, ["11:58:00", "11:58:10", "11:58:20", "11:58:30", "11:58:40", "11:58:50"]),
        (1_000_000, 3, ["29 Nov"]),
    ],
)
def test_times_are_round_and_few(minutes: float, count: int, labels: list[str]) -> None:
    assert [tick.label for tick in chart(*[1.0] * count, minutes=minutes).x_ticks] == labels


def test_several_lines_share_their_axes() -> None:
    times = [START, START + timedelta(minutes=1)]
    both = [Series(name="a", values=[1, 2]), Series(name="b", values=[100, None])]
    seen = line_chart(title="Two", times=times, series=both)
    assert [line.css_class for line in seen.lines] == ["line-1", "line-2"]
    assert seen.y_ticks[-1].label == "100"
    assert [row.cells for row in seen.rows] == [("1", "100"), ("2", UNKNOWN)]


@given(st.lists(VALUES, max_size=20))
def test_ticks_are_round_and_hold_all_values(values: list[float]) -> None:
    ticks = nice_ticks(values)
    assert 2 <= len(ticks) <= 7
    room = (ticks[-1] - ticks[0]) * 1e-6
    assert ticks[0] <= min([0.0, *values]) + room
    assert ticks[-1] >= max([0.0, *values]) - room
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert max(steps) - min(steps) <= max(steps) * 1e-6
    assert f"{steps[0]:.3e}"[:5] in ("1.000", "2.000", "5.000")
    assert any(abs(tick) <= room for tick in ticks)


@given(ANY_VALUES)
def test_every_chart_stays_within_its_frame(values: list[float | None]) -> None:
    seen = chart(*values)
    for number, x_or_y in enumerate(NUMBER.findall(seen.lines[0].path.replace("h0", ""))):
        low, high = (seen.left, seen.right) if number % 2 == 0 else (seen.top, seen.bottom)
        assert low - 0.1 <= float(x_or_y) <= high + 0.1
    assert all(seen.top - 0.1 <= tick.position <= seen.bottom + 0.1 for tick in seen.y_ticks)
    assert all(seen.left - 0.1 <= tick.position <= seen.right + 0.1 for tick in seen.x_ticks)
    assert len(seen.rows) == len(values)


@given(ANY_VALUES)
def test_every_sparkline_stays_within_its_frame(values: list[float | None]) -> None:
    seen = sparkline(values)
    numbers = [float(number) for number in NUMBER.findall(seen.path.replace("h0", ""))]
    assert all(0 <= x <= seen.width for x in numbers[::2])
    assert all(0 <= y <= seen.height for y in numbers[1::2])


def test_a_sparkline_says_what_it_shows() -> None:
    assert sparkline([1, None, 3]).description == "from 1 to 3, last 3"
    assert sparkline([]).description == UNKNOWN
    assert sparkline([0, 10]).path == "M1 19L95 1"


def test_points_without_neighbours_are_dots() -> None:
    assert path_of([0, 1, 2, 3], [1, None, 2, None]) == "M0 1h0M2 2h0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.25, "0.25"), (1.5, "1.5"), (99.94, "99.9"), (150, "150"), (2500, "2,500"),
        (12_500, "12.5k"), (1_250_000, "1.25M"), (3e9, "3G"), (-20_000, "-20k"), (2e12, "2T"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_value(value) == text
