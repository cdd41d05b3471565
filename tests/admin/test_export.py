"""Lines of CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile.admin._export import CSV_COLUMNS, csv_line


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_the_head_is_that_of_the_port() -> None:
    assert csv_line(CSV_COLUMNS) == (
        '"id","task_identifier","queue_name","state","run_at","attempts","max_attempts","priority","key"\r\n'
    )


def test_a_job_becomes_a_line() -> None:
    at = datetime(2026, 11, 29, 12, 30, tzinfo=timezone(timedelta(hours=1)))
    line = csv_line([7, "send", None, "ready", at, 0, 25, -5, 'a "key", so'])
    assert line == '"7","send","","ready","2026-11-29T11:30:00Z","0","25","-5","a ""key"", so"\r\n'
    assert read(line) == [["7", "send", "", "ready", "2026-11-29T11:30:00Z", "0", "25", "-5", 'a "key", so']]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "@sum(a1)", "\tx", "\rx", "\nx", "  =1", "\u00a0=1", "\uff1d1", " =cmd|' /c calc'!a0"],
)
def test_no_text_is_a_formula(text: str) -> None:
    assert read(csv_line([text])) == [["'" + text]]


@pytest.mark.parametrize("text", ["a=1", "'=1", "", "a-b", "2026-11-29"])
def test_other_texts_are_left_alone(text: str) -> None:
    assert read(csv_line([text])) == [[text]]


@given(st.lists(st.lists(st.text(), min_size=1, max_size=4), max_size=4))
def test_whatever_is_written_is_read_again(rows: list[list[str]]) -> None:
    text = "".join(map(csv_line, rows))
    back = read(text)
    assert len(back) == len(rows)
    for row, cells in zip(rows, back, strict=True):
        assert [cell.removeprefix("'") for cell in cells] == [value.removeprefix("'") for value in row]
        assert not any(cell.strip().startswith(tuple("=+-@")) for cell in cells)


def test_times_are_in_utc() -> None:
    assert csv_line([datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=UTC)]) == '"2026-01-01T00:00:00.000005Z"\r\n'
