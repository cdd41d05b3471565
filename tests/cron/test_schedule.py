"""When an entry is due: fields, days, zones, and clocks that are set."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cron.zones import MINUTE, ZONES, changes, matches, minutes
from trio_graphile import CronItem, OptionInvalid
from trio_graphile._cron.due import due_before, due_from
from trio_graphile._cron.fields import FIELDS, Field
from trio_graphile._cron.schedule import Schedule

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday


def item(schedule: str, zone: str = "UTC") -> CronItem:
    return CronItem(schedule=schedule, task_identifier="task", zone=zone)


def due(schedule: str, zone: str = "UTC", *, start: datetime = START, end: datetime) -> list[datetime]:
    return list(takewhile(lambda at: at < end, due_from(item(schedule, zone), start)))


def texts(schedule: str, zone: str, start: datetime, days: int = 1) -> list[str]:
    return [f"{at:%d %H:%M}" for at in due(schedule, zone, start=start, end=start + timedelta(days=days))]


FIELDS_READ: dict[str, tuple[int | list[int], ...]] = {
    "* * * * *": (60, 24, 31, 12, 7),
    "*/15 8-10 1,3 feb SAT": ([0, 15, 30, 45], [8, 9, 10], [1, 3], [2], [6]),
    "7-59/20 */24 */10 2-12/5 1-5/2": ([7, 27, 47], [0], [1, 11, 21, 31], [2, 7, 12], [1, 3, 5]),
    "*/100 0 1 jan-mar fri-sun": ([0], [0], [1], [1, 2, 3], [0, 5, 6]),
    "1,*/30,5-7 * * * 0-6": ([0, 1, 5, 6, 7, 30], 24, 31, 12, 7),
    "0 0 1-31 1-12 1-7": ([0], [0], 31, 12, 7),
    "0 0 */1 */1 */1": ([0], [0], 31, 12, 7),
    "0 0 * * 5-7": ([0], [0], 31, 12, [0, 5, 6]),
    "00 09 * * sun": ([0], [9], 31, 12, [0]),
}


@pytest.mark.parametrize("text", FIELDS_READ)
def test_fields_are_sets_of_numbers(text: str) -> None:
    schedule = item(text).schedule
    sets = (schedule.minutes, schedule.hours, schedule.days, schedule.months, schedule.weekdays)
    for field, values, expected in zip(FIELDS, sets, FIELDS_READ[text], strict=True):
        wanted = field.every if isinstance(expected, int) else expected
        assert values == frozenset(wanted), field.name


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "sun,7"])
def test_sunday_is_0_and_7(sunday: str) -> None:
    week = due(f"0 12 * * {sunday}", end=START + timedelta(days=7))
    assert [at.strftime("%a") for at in week] == ["Sun"]


WEEKDAYS = {
    "*/1": "Mon Tue Wed Thu Fri Sat Sun",
    "*/2": "Tue Thu Sat Sun",
    "0-6": "Mon Tue Wed Thu Fri Sat Sun",
    "0-2": "Mon Tue Sun",
    "6-7": "Sat Sun",
    "5-6": "Fri Sat",
    "mon-fri": "Mon Tue Wed Thu Fri",
}


@pytest.mark.parametrize("weekdays", WEEKDAYS)
def test_weekdays_count_from_sunday(weekdays: str) -> None:
    week = due(f"0 0 * * {weekdays}", end=START + timedelta(days=7))
    assert " ".join(at.strftime("%a") for at in week) == WEEKDAYS[weekdays]


def test_of_day_and_weekday_either_is_enough_if_both_are_restricted() -> None:
    found = due("0 0 3-4 * 0-2", end=START + timedelta(days=8))
    assert [f"{at:%a %d}" for at in found] == ["Mon 01", "Tue 02", "Wed 03", "Thu 04", "Sun 07", "Mon 08"]


@pytest.mark.parametrize("days", ["*", "1-31", "*/1", "1-15,16-31"])
def test_a_complete_set_does_not_restrict(days: str) -> None:
    """For croniter, 1-31 does: it would make this entry fire daily."""
    assert [at.day for at in due(f"0 0 {days} * 1", end=START + timedelta(days=14))] == [1, 8]


def test_steps_restrict_and_count_from_the_first_day() -> None:
    assert [at.day for at in due("30 8 */4 * *", end=START + timedelta(days=20))] == [1, 5, 9, 13, 17]


def test_days_that_a_month_lacks_do_not_come() -> None:
    assert [at.month for at in due("0 0 31 * *", end=START + timedelta(days=366))] == [1, 3, 5, 7, 8, 10, 12]
    leap_days = islice(due_from(item("0 0 29 2 *"), datetime(2097, 1, 1, tzinfo=UTC)), 2)
    assert [at.year for at in leap_days] == [2104, 2108]


def test_a_time_counts_that_is_now() -> None:
    at = START.replace(hour=8)
    assert next(due_from(item("0 8 * * *"), at)) == at
    assert next(due_from(item("0 8 * * *"), at + timedelta(microseconds=1))) == at + timedelta(days=1)
    assert next(due_before(item("0 8 * * *"), at)) == at - timedelta(days=1)
    assert next(due_before(item("0 8 * * *"), at + timedelta(microseconds=1))) == at


# --- clocks that are set ------------------------------------------------------------------------


def test_a_skipped_time_does_not_come() -> None:
    start = datetime(2024, 3, 30, 12, tzinfo=UTC)  # in Paris, 2:00 is 3:00 on the 31st
    assert texts("30 2 * * *", "Europe/Paris", start, days=3) == ["01 00:30", "02 00:30"]
    assert texts("30 * * * *", "Europe/Paris", start.replace(day=31, hour=0))[:3] == [
        "31 00:30",
        "31 01:30",
        "31 02:30",
    ]


def test_a_repeated_time_comes_once_and_the_first_time() -> None:
    start = datetime(2024, 10, 26, 12, tzinfo=UTC)  # in Paris, 3:00 is 2:00 on the 27th
    assert texts("30 2 * * *", "Europe/Paris", start, days=2) == ["27 00:30", "28 01:30"]
    assert texts("*/30 2 * * *", "Europe/Paris", start) == ["27 00:00", "27 00:30"]


def test_in_a_repeated_hour_an_hourly_entry_pauses() -> None:
    """Documented: who wants every hour that passes says so in UTC."""
    start = datetime(2024, 10, 27, tzinfo=UTC)
    assert texts("0 * * * *", "Europe/Paris", start)[:3] == ["27 00:00", "27 02:00", "27 03:00"]
    assert texts("0 * * * *", "UTC", start)[:3] == ["27 00:00", "27 01:00", "27 02:00"]


def test_a_day_that_is_skipped_does_not_come() -> None:
    start = datetime(2011, 12, 29, 12, tzinfo=UTC)
    days = due("0 12 * * *", "Pacific/Apia", start=start, end=start + timedelta(days=3))
    assert [(at.day, at.hour) for at in days] == [(29, 22), (30, 22), (31, 22)]
    assert len(due("0 12 30 12 *", "Pacific/Apia", start=start, end=start + timedelta(days=400))) == 1


@pytest.mark.parametrize("second_pass", [False, True])
def test_while_times_are_repeated_all_that_came_are_found(*, second_pass: bool) -> None:
    now = datetime(2024, 10, 27, 1 if second_pass else 0, 10, tzinfo=UTC)  # 2:10 in Paris, both times
    found = list(islice(due_before(item("*/20 * * * *", "Europe/Paris"), now), 3))
    first = ["00:40", "00:20", "00:00"] if second_pass else ["00:00", "23:40", "23:20"]
    assert [f"{at:%H:%M}" for at in found] == first


def test_the_zone_of_the_process_has_no_influence() -> None:
    program = (
        "from datetime import UTC, datetime\n"
        "from trio_graphile import parse_crontab\n"
        "from trio_graphile._cron.due import due_before, due_from\n"
        "(item,) = parse_crontab('30 2 * * * task')\n"
        "start = datetime(2024, 3, 10, tzinfo=UTC)\n"
        "print(next(due_from(item, start)).isoformat(), next(due_before(item, start)).isoformat())\n"
    )
    for zone in ("America/New_York", "Asia/Kathmandu"):
        printed = subprocess.run(
            [sys.executable, "-c", program], env={"TZ": zone}, check=True, capture_output=True, text=True
        )
        assert printed.stdout == "2024-03-10T02:30:00+00:00 2024-03-09T02:30:00+00:00\n"


# --- by brute force -----------------------------------------------------------------------------


def numbers(field: Field) -> st.SearchStrategy[frozenset[int]]:
    every = st.just(frozenset(field.every))
    some = st.frozensets(st.sampled_from(field.every), min_size=1)
    return every | some | st.sampled_from([2, 5, 7]).map(lambda step: frozenset(field.every[::step]))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    minutes, hours, days, months, weekdays = (draw(numbers(field)) for field in FIELDS)
    try:
        return Schedule(minutes, hours, days, months, weekdays)
    except OptionInvalid:  # days that these months lack
        return Schedule(minutes, hours, days, frozenset(range(1, 13)), weekdays)


YEARS = (2005, 2035)
FIRST = datetime(YEARS[0], 1, 1, tzinfo=UTC)
CHANGES = {zone: changes(zone, *YEARS) for zone in ZONES}


@given(st.data())
def test_what_is_due_is_what_a_walk_over_every_minute_finds(data: st.DataObject) -> None:
    """Half of the times around a change of the clocks; forwards and backwards."""
    zone = data.draw(st.sampled_from(sorted(ZONES)))
    at = data.draw(
        st.sampled_from(CHANGES[zone])
        | st.integers(0, (YEARS[1] - YEARS[0]) * 525_600).map(lambda count: FIRST + count * MINUTE)
    )
    start = at.replace(second=0, microsecond=0) - timedelta(minutes=data.draw(st.integers(0, 3000)))
    end = start + timedelta(minutes=data.draw(st.integers(1, 4000)))
    entry = CronItem(schedule=data.draw(schedules()), task_identifier="task", zone=zone)

    expected = [minute.at for minute in minutes(zone, start, end) if matches(entry, minute.wall)]
    forwards = list(takewhile(lambda at: at < end, due_from(entry, start)))
    backwards = list(takewhile(lambda at: at >= start, due_before(entry, end)))
    assert forwards == expected
    assert backwards == expected[::-1]


WHOLE_YEARS = {
    "America/New_York": 2024,
    "Australia/Lord_Howe": 2023,
    "America/Sao_Paulo": 2018,
    "Africa/Casablanca": 2025,
    "Pacific/Apia": 2011,
}


@pytest.mark.parametrize("zone", ZONES)
def test_a_whole_year_is_as_a_walk_over_every_minute_finds_it(zone: str) -> None:
    start = datetime(WHOLE_YEARS[zone], 1, 1, tzinfo=UTC)
    end = start.replace(year=start.year + 1)
    entries = [
        item(text, zone) for text in ("*/30 0-3 * * *", "15 2 1-7 * 0", "0 0 31,30 */2 *", "59 23 * * 6")
    ]
    expected: list[list[datetime]] = [[] for _ in entries]
    for minute in minutes(zone, start, end):
        for entry, found in zip(entries, expected, strict=True):
            if matches(entry, minute.wall):
                found.append(minute.at)
    for entry, found in zip(entries, expected, strict=True):
        assert list(takewhile(lambda at: at < end, due_from(entry, start))) == found


@given(schedules())
def test_a_schedule_is_written_as_it_is_read(schedule: Schedule) -> None:
    assert item(str(schedule)).schedule == schedule
