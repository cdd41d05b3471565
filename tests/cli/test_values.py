"""Times and durations as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trio_graphile.cli._values import NOW, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300), ("0", 0), ("5m", 300), ("2h", 7200), ("1 s", 1), ("3secs", 3), ("2 Minutes", 120),
        ("1HR", 3600), (" 7 min ", 420),
    ],
)  # fmt: skip
def test_durations_are_seconds_or_have_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "1.5h", "1d", "1h30m", "-5", "5 fortnights", "9" * 30, "400000000"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration|longer than ten years"):
        parse_duration(text)


def test_times_have_an_offset_and_become_utc() -> None:
    assert parse_time("2030-01-31T08:00:00+02:00") == datetime(2030, 1, 31, 6, tzinfo=UTC)
    assert parse_time("2030-01-31T08:00:00Z").utcoffset() == parse_time("NOW").utcoffset()
    assert parse_time(" now ") is NOW


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no time"),
        ("tomorrow", "is no time"),
        ("2030-13-01T00:00:00Z", "is no time"),
        ("2030-01-31T08:00:00", "has no time zone: write 2030-01-31T08:00:00Z"),
        ("0001-01-01T00:00:00+02:00", "is before year 1 or after 9999 in UTC"),
        ("9999-12-31T23:00:00-02:00", "is before year 1 or after 9999 in UTC"),
    ],
)
def test_what_is_no_time_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_time(text)
