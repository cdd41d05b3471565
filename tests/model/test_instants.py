"""Times beyond what Python has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.instants import FIRST, LAST, moved, shown


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
