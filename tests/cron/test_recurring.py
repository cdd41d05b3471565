"""What can be said of entries of crontabs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trio_graphile._cron.crontab import parse_crontab
from trio_graphile._cron.due import Known
from trio_graphile._cron.recurring import MOST_MISSED, RecurringStatus, missed, recurring
from trio_graphile._model.instants import FIRST, LAST

NOW = datetime(2026, 11, 29, 12, 0, 30, tzinfo=UTC)
HOURLY, BERLIN = parse_crontab("0 * * * * tidy\nCRON_TZ=Europe/Berlin\n30 9 * * 1-5 report\n")


def ago(**units: float) -> datetime:
    return NOW - timedelta(**units)


def test_an_entry_of_the_crontab_says_when_it_comes_in_its_own_zone() -> None:
    known = {"report": Known(ago(days=9), datetime(2026, 11, 27, 8, 30, tzinfo=UTC))}
    hourly, berlin = recurring(known, [HOURLY, BERLIN], NOW, limit=2)
    assert hourly.missed is None
    assert hourly.known_since is None
    assert hourly.next == (NOW.replace(hour=13, second=0), NOW.replace(hour=14, second=0))
    assert [str(at) for at in berlin.next] == ["2026-11-30 09:30:00+01:00", "2026-12-01 09:30:00+01:00"]
    assert (berlin.schedule, berlin.zone, berlin.task_identifier) == (
        "30 9 * * 1-5",
        "Europe/Berlin",
        "report",
    )
    assert berlin.words == "on weekdays at 09:30 in Europe/Berlin"
    assert (berlin.missed, berlin.known_since, berlin.last_at) == (
        0,
        ago(days=9),
        known["report"].last_execution,
    )


def test_without_a_crontab_there_is_what_the_database_knows() -> None:
    known = {"b": Known(ago(days=1), None), "a": Known(ago(days=2), ago(hours=1))}
    assert recurring(known, [], NOW) == (
        RecurringStatus(identifier="a", known_since=ago(days=2), last_at=ago(hours=1)),
        RecurringStatus(identifier="b", known_since=ago(days=1)),
    )


@pytest.mark.parametrize(
    ("known", "count"),
    [
        (Known(ago(days=1), NOW.replace(second=0)), 0),
        # At 12:00 exactly it is half a minute ago: its job may be on its way.
        (Known(ago(days=1), NOW.replace(hour=11, second=0)), 0),
        (Known(ago(days=1), NOW.replace(hour=9, second=0)), 2),
        (Known(NOW.replace(hour=9, second=0), None), 3),
        (Known(ago(days=900), None), MOST_MISSED),
        (Known(FIRST, None), MOST_MISSED),
        (Known(ago(days=1), LAST), 0),
        (Known(ago(days=1), NOW + timedelta(days=1)), 0),
    ],
)
def test_missed_times_are_those_since_the_last_job(known: Known, count: int) -> None:
    assert missed(HOURLY, known, NOW) == count


def test_nothing_comes_once_time_ends() -> None:
    [status] = recurring({}, [HOURLY], datetime(9999, 12, 31, 21, 30, tzinfo=UTC))
    assert len(status.next) <= 2
