"""Schedules in words."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_graphile._cron.fields import FIELDS, Field
from trio_graphile._cron.item import CronItem, read_schedule
from trio_graphile._cron.schedule import Schedule
from trio_graphile._cron.words import describe, describe_schedule
from trio_graphile._exceptions import OptionInvalid


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0,30 * * * *", "every 30 minutes"),
        ("*/7 * * * *", "every day at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        ("0 * * * *", "every hour"),
        ("15 * * * *", "every hour from 00:15"),
        ("0 */6 * * *", "every 6 hours"),
        ("20 */6 * * *", "every 6 hours from 00:20"),
        ("0 */5 * * *", "every day at 00:00, 05:00, 10:00, 15:00 and 20:00"),
        ("0 4 * * *", "every day at 04:00"),
        ("0 0,12 * * *", "every 12 hours"),
        ("0 8,17 * * *", "every day at 08:00 and 17:00"),
        ("0,30 8,9,17 * * *", "every day at 08:00, 08:30, 09:00, 09:30, 17:00 and 17:30"),
        ("0,30 9-17 * * *", "every 30 minutes from 09:00 to 17:30"),
        ("*/5 9-17 * * *", "every 5 minutes from 09:00 to 17:55"),
        ("*/5 9 * * *", "every 5 minutes from 09:00 to 09:55"),
        ("* 9-17 * * *", "every minute from 09:00 to 17:59"),
        ("* 9,12 * * *", "every day in every minute of the hours 9 and 12"),
        ("30 9-17 * * *", "every hour from 09:30 to 17:30"),
        ("1-9 9,12 * * *", "every day at minutes 1 to 9 of the hours 9 and 12"),
        ("30 9 * * 1-5", "on weekdays at 09:30"),
        ("30 9 * * 6,0", "at weekends at 09:30"),
        ("30 9 * * 0,1,4", "on Mondays, Thursdays and Sundays at 09:30"),
        ("*/10 * * * 1-5", "every 10 minutes, on weekdays"),
        ("0 4 1 * *", "on the 1st of each month at 04:00"),
        ("0 4 1-3,11,22,23 * *", "on the 1st to 3rd, 11th, 22nd and 23rd of each month at 04:00"),
        ("0 4 1 1 *", "on the 1st of January at 04:00"),
        ("0 4 * 6,7 *", "every day in June and July at 04:00"),
        ("0 4 1 * 1", "on the 1st of each month and also on Mondays at 04:00"),
        ("0 4 1 6 1", "on the 1st of June and also on Mondays in June at 04:00"),
        ("0 0 29 2 *", "on the 29th of February at 00:00"),
    ],
)
def test_a_schedule_is_said_as_people_say_it(text: str, words: str) -> None:
    assert describe_schedule(read_schedule(text)) == words


def test_a_zone_is_named_unless_it_is_utc() -> None:
    item = CronItem(schedule="30 9 * * 1-5", task_identifier="report", zone="Europe/Berlin")
    assert describe(item) == "on weekdays at 09:30 in Europe/Berlin"
    assert describe(attrs.evolve(item, zone="UTC")) == "on weekdays at 09:30"


def sets_of(field: Field) -> st.SearchStrategy[frozenset[int]]:
    values = st.sampled_from(field.every)

    def stepped(step: int) -> frozenset[int]:
        return frozenset(field.every[::step])

    def between(ends: tuple[int, int]) -> frozenset[int]:
        return frozenset(range(min(ends), max(ends) + 1))

    return st.one_of(
        st.just(frozenset(field.every)),
        st.integers(1, len(field.every)).map(stepped),
        st.tuples(values, values).map(between),
        st.frozensets(values, min_size=1),
    )


@given(st.tuples(*map(sets_of, FIELDS)), st.integers(0, 4), st.data())
def test_schedules_that_differ_are_said_differently(
    sets: tuple[frozenset[int], ...], place: int, data: st.DataObject
) -> None:
    def flipped(value: int) -> frozenset[int]:
        return sets[place] ^ {value}

    other = list(sets)
    other[place] = data.draw(sets_of(FIELDS[place]) | st.sampled_from(FIELDS[place].every).map(flipped))
    assume(other[place] and other[place] != sets[place])
    try:
        one, another = Schedule(*sets), Schedule(*other)
    except OptionInvalid:
        return
    assert describe_schedule(one) != describe_schedule(another)
