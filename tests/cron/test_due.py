"""What has fallen due, what was missed, and what is left out: by clocks of every temper."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile import CronItem, CronOptions, OptionInvalid, WorkerOptions
from trio_graphile._cron.due import Agenda, Known, Plan, backfill, due_from
from trio_graphile._cron.item import job_of_item

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
OPTIONS = CronOptions()


def item(schedule: str, name: str = "task", **settings: object) -> CronItem:
    return CronItem(schedule=schedule, task_identifier=name, **settings)  # type: ignore[arg-type]


def times(plan: Plan) -> list[str]:
    return [
        f"{firing.at:%H:%M} {' '.join(item.identifier for item in firing.items)}" for firing in plan.firings
    ]


# --- while a worker runs ------------------------------------------------------------------------


def test_what_is_due_comes_once() -> None:
    agenda = Agenda([item("*/2 * * * *", "a"), item("*/3 * * * *", "b")], NOON)
    assert agenda.next_at == NOON
    assert times(agenda.take(NOON, OPTIONS)) == ["12:00 a b"]
    assert times(agenda.take(NOON, OPTIONS)) == []
    assert agenda.next_at == NOON + 2 * MINUTE
    assert times(agenda.take(NOON + timedelta(seconds=90), OPTIONS)) == []
    assert times(agenda.take(NOON + timedelta(minutes=6, seconds=30), OPTIONS)) == [
        "12:02 a",
        "12:03 b",
        "12:04 a",
        "12:06 a b",
    ]


def test_entries_of_one_time_come_in_the_order_of_the_crontab() -> None:
    agenda = Agenda([item("0 13 * * *", "z"), item("* 13 * * *", "m"), item("0 * * * *", "a")], NOON + MINUTE)
    assert times(agenda.take(NOON + HOUR, OPTIONS)) == ["13:00 z m a"]


def test_a_worker_starts_with_the_next_full_minute() -> None:
    assert Agenda([item("* * * * *")], NOON + timedelta(seconds=1)).next_at == NOON + MINUTE


STEPS = st.lists(st.integers(-900, 900), min_size=1, max_size=40)
"""By how many seconds a clock moves from one look to the next: within what is made up for."""
SCHEDULES = ("* * * * *", "*/2 * * * *", "*/7 * * * *", "3-9 12 * * *", "0 * * * *", "59 11 * * *")


@given(STEPS, st.lists(st.sampled_from(SCHEDULES), min_size=1, max_size=6))
def test_however_a_clock_goes_back_and_forth_no_time_is_missed(
    steps: list[int], schedules: list[str]
) -> None:
    """A clock that was set back begins anew, and a time that is not after an entry's last adds nothing."""
    items = [item(schedule, f"task{number}") for number, schedule in enumerate(schedules)]
    added: dict[str, list[datetime]] = {each.identifier: [] for each in items}
    agenda, latest, now = Agenda(items, NOON), NOON, NOON
    for step in steps:
        now += timedelta(seconds=step)
        if now < latest:
            agenda = Agenda(items, now)
        latest = now
        plan = agenda.take(now, OPTIONS)
        assert not plan.skipped
        for firing in plan.firings:
            for each in firing.items:
                before = added[each.identifier]
                if not before or before[-1] < firing.at:
                    before.append(firing.at)
    furthest = max(NOON + timedelta(seconds=sum(steps[: count + 1])) for count in range(len(steps)))
    for each in items:
        due = takewhile(lambda at: at <= furthest, due_from(each, NOON))
        assert [at for at in added[each.identifier] if at >= NOON] == list(due)


def test_a_clock_that_is_set_back_brings_nothing_twice() -> None:
    agenda = Agenda([item("* * * * *")], NOON)
    agenda.take(NOON + 5 * MINUTE, OPTIONS)
    assert agenda.take(NOON - HOUR, OPTIONS) == Plan()
    assert agenda.take(NOON + 5 * MINUTE, OPTIONS) == Plan()
    assert times(agenda.take(NOON + 6 * MINUTE, OPTIONS)) == ["12:06 task"]


def test_after_a_sleep_of_84_minutes_the_last_hour_is_made_up_for() -> None:
    agenda = Agenda([item("*/20 * * * *", "often"), item("5 12 * * *", "daily")], NOON + MINUTE)
    plan = agenda.take(NOON + 84 * MINUTE, OPTIONS)
    assert times(plan) == ["12:40 often", "13:00 often", "13:20 often"]
    skipped = {entry.item.identifier: (entry.since, entry.before) for entry in plan.skipped}
    assert skipped == {
        "often": (NOON + 20 * MINUTE, NOON + 40 * MINUTE),
        "daily": (NOON + 5 * MINUTE, NOON + 84 * MINUTE + timedelta(microseconds=1)),
    }


def test_an_entry_that_is_backfilled_is_made_up_for_as_far_after_a_sleep() -> None:
    entries = [item("0 * * * *", "a", backfill_period=3 * 3600), item("0 * * * *", "b")]
    plan = Agenda(entries, NOON + MINUTE).take(NOON + 5 * HOUR, OPTIONS)
    assert times(plan) == ["14:00 a", "15:00 a", "16:00 a b", "17:00 a b"]


def test_a_laptop_that_slept_for_a_week_does_not_get_a_week_of_jobs() -> None:
    agenda = Agenda([item("* * * * *")], NOON)
    assert len(agenda.take(NOON + timedelta(days=7), OPTIONS).firings) == 61  # the hour and its beginning


def test_unless_it_wants_to() -> None:
    week = CronOptions(catch_up_window=7 * 86_400, missed_limit=100_000)
    plan = Agenda([item("* * * * *")], NOON).take(NOON + timedelta(days=7), week)
    assert len(plan.firings) == 7 * 1440 + 1
    assert plan.skipped == ()


def test_of_what_was_missed_only_the_latest_counts_if_that_is_wanted() -> None:
    latest_only = CronOptions(missed_limit=1)
    plan = Agenda([item("*/10 * * * *", "a"), item("30 * * * *", "b")], NOON).take(
        NOON + 45 * MINUTE, latest_only
    )
    assert times(plan) == ["12:30 b", "12:40 a"]
    assert [entry.item.identifier for entry in plan.skipped] == ["a"]


@given(st.lists(st.integers(-120, 180), min_size=1, max_size=20))
def test_whatever_the_clock_does_nothing_comes_twice_and_nothing_is_lost(steps: list[int]) -> None:
    entries = [item("*/7 * * * *", "a"), item("0 * * * *", "b")]
    options = CronOptions(catch_up_window=86_400, missed_limit=100_000)
    agenda, now, latest = Agenda(entries, NOON), NOON, NOON - MINUTE
    found: list[tuple[datetime, str]] = []
    for step in steps:
        now += timedelta(minutes=step)
        latest = max(latest, now)
        plan = agenda.take(now, options)
        found += [(firing.at, item.identifier) for firing in plan.firings for item in firing.items]
        assert plan.skipped == ()
    at_once = Agenda(entries, NOON).take(latest, CronOptions(catch_up_window=1e7, missed_limit=100_000))
    expected = [(firing.at, item.identifier) for firing in at_once.firings for item in firing.items]
    assert found == expected


# --- before it started --------------------------------------------------------------------------

DAY = 86_400


def ago(**period: float) -> Known:
    return Known(NOON - timedelta(days=30), NOON - timedelta(**period))


def test_a_new_entry_has_missed_nothing() -> None:
    assert backfill([item("* * * * *", backfill_period=DAY)], {}, NOON, OPTIONS) == Plan()


def test_an_entry_without_a_period_is_not_backfilled() -> None:
    assert backfill([item("* * * * *")], {"task": ago(hours=1)}, NOON, OPTIONS) == Plan()


@pytest.mark.parametrize(("hours", "count"), [(5, 2), (25, 6)])
def test_what_was_missed_since_the_last_time_is_made_up_for(hours: int, count: int) -> None:
    entry = item("0 */4 * * *", backfill_period=DAY)
    plan = backfill([entry], {"task": ago(hours=hours)}, NOON + MINUTE, OPTIONS)
    assert len(plan.firings) == count
    assert plan.firings[-1].at == NOON
    assert all(firing.backfilled for firing in plan.firings)


def test_an_entry_that_never_ran_goes_back_to_when_it_became_known() -> None:
    known = Known(NOON - 3 * HOUR, None)
    plan = backfill([item("0 * * * *", backfill_period=DAY)], {"task": known}, NOON, OPTIONS)
    assert times(plan) == ["09:00 task", "10:00 task", "11:00 task"]


def test_entries_are_known_by_their_own_identifiers() -> None:
    """One with an identifier of its own, and none that has the name of its task."""
    entry = item("0 * * * *", backfill_period=DAY, identifier="mine")
    assert times(backfill([entry], {"mine": ago(hours=1.5)}, NOON, OPTIONS)) == ["11:00 mine"]
    assert backfill([entry], {"task": ago(hours=1.5)}, NOON, OPTIONS) == Plan()


def test_each_entry_goes_back_as_far_as_it_wants_and_the_oldest_time_comes_first() -> None:
    entries = [
        item("0 * * * *", "long", backfill_period=3 * 3600),
        item("30 * * * *", "short", backfill_period=3600),
    ]
    plan = backfill(entries, {"long": ago(days=2), "short": ago(days=2)}, NOON, OPTIONS)
    assert times(plan) == ["09:00 long", "10:00 long", "11:00 long", "11:30 short"]


def test_a_year_is_not_walked_through_minute_by_minute() -> None:
    entry = item("* * * * *", backfill_period=52 * 7 * DAY)
    plan = backfill([entry], {"task": ago(days=400)}, NOON, OPTIONS)
    assert [firing.at for firing in plan.firings] == [NOON - minute * MINUTE for minute in range(100, 0, -1)]
    [skipped] = plan.skipped
    assert skipped.since == NOON - timedelta(weeks=52)
    assert skipped.before == plan.firings[0].at


def test_latest_only_makes_up_for_one_time_of_each_entry() -> None:
    entries = [item("0 * * * *", "a", backfill_period=DAY), item("30 9 * * *", "b", backfill_period=DAY)]
    plan = backfill(entries, {"a": ago(days=2), "b": ago(days=2)}, NOON, CronOptions(missed_limit=1))
    assert times(plan) == ["09:30 b", "11:00 a"]


# --- the jobs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backfilled", [False, True])
def test_a_job_is_told_its_time_in_utc_to_the_millisecond(*, backfilled: bool) -> None:
    entry = item("0 14 * * *", zone="Europe/Paris", payload_json='{"a":1,"_cron":"mine"}')
    job = job_of_item(entry, NOON, backfilled=backfilled)
    told = f'{{"a":1,"_cron":{{"ts":"2024-05-01T12:00:00.000Z","backfilled":{str(backfilled).lower()}}}}}'
    assert (job.identifier, job.payload_json, job.spec.run_at) == ("task", told, NOON)


def test_a_job_without_payload_is_told_too() -> None:
    job = job_of_item(item("* * * * *"), NOON, backfilled=False)
    assert job.payload_json == '{"_cron":{"ts":"2024-05-01T12:00:00.000Z","backfilled":false}}'


# --- options ------------------------------------------------------------------------------------

WRONG_OPTIONS: dict[str, dict[str, object]] = {
    "catch_up_window: 30 s is less than 60": {"catch_up_window": 30},
    "catch_up_window: 0 is not a positive number of seconds": {"catch_up_window": 0},
    "catch_up_window: 3600000000 seconds are over the maximum": {"catch_up_window": 3_600_000_000},
    "missed_limit: 0 is not between 1 and 100000": {"missed_limit": 0},
    "missed_limit: a whole number is needed, not 1.5": {"missed_limit": 1.5},
}


@pytest.mark.parametrize("reason", WRONG_OPTIONS)
def test_options_that_cannot_be_right_are_refused(reason: str) -> None:
    with pytest.raises(OptionInvalid) as raised:
        CronOptions(**WRONG_OPTIONS[reason])  # type: ignore[arg-type]
    assert str(raised.value).startswith(reason)


def test_the_options_are_a_part_of_those_of_a_worker() -> None:
    assert WorkerOptions().cron == CronOptions(catch_up_window=3600.0, missed_limit=100)
