"""Times beyond what Python has."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.instants import FIRST, LAST, moved, shown, time_of


def test_a_time_is_shown_in_utc_whatever_its_zone() -> None:
    at = datetime(2026, 11, 29, 1, 30, 5, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert shown(at) == "2026-11-28 23:30:05 UTC"


def test_what_lies_beyond_all_times_is_said_in_words() -> None:
    assert (shown(FIRST), shown(LAST)) == ("ever", "never")


@given(
    st.datetimes(timezones=st.just(UTC)) | st.sampled_from([FIRST, LAST]),
    st.floats(-1e15, 1e15),
)
def test_no_time_is_moved_out_of_range(at: datetime, seconds: float) -> None:
    later = moved(at, seconds)
    assert FIRST <= later <= LAST
    assert shown(later)
    if later not in (FIRST, LAST):
        assert abs((later - at).total_seconds() - seconds) < 1e-3


def test_infinity_stays_where_it_is() -> None:
    assert moved(LAST, -5) == LAST
    assert moved(FIRST, 5) == FIRST


@pytest.mark.parametrize(
    ("seconds", "time"),
    [
        (0.0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-0.000001, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        (math.inf, datetime.max.replace(tzinfo=UTC)),
        (253402300800.0, datetime.max.replace(tzinfo=UTC)),
        (9.2e12, datetime.max.replace(tzinfo=UTC)),
        (-math.inf, datetime.min.replace(tzinfo=UTC)),
        (-210866803200.0, datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_a_time_that_python_does_not_know_is_its_first_or_last(seconds: float, time: datetime) -> None:
    assert time_of(seconds) == time
    assert time_of(None) is None
