"""The calendar walked minute by minute: slow, and too simple to be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import attrs

from trio_graphile import CronItem

ZONES = {
    "America/New_York": "an hour in March and November",
    "Australia/Lord_Howe": "half an hour, and the other way round",
    "America/Sao_Paulo": "at midnight, until 2019",
    "Africa/Casablanca": "around Ramadan, of which the standard time is summer's",
    "Pacific/Apia": "which left out the 30th of December 2011",
}
MINUTE = timedelta(minutes=1)


@attrs.frozen
class Minute:
    at: datetime
    wall: datetime


def minutes(zone: str, start: datetime, end: datetime) -> Iterator[Minute]:
    """Yield the minutes of a time, except for those that the clocks of a zone show for a second time."""
    place = ZoneInfo(zone)
    at = start
    while at < end:
        wall = at.astimezone(place)
        if not wall.fold:
            yield Minute(at, wall)
        at += MINUTE


def matches(item: CronItem, wall: datetime) -> bool:
    """Classic cron, as its manual has it."""
    schedule = item.schedule
    if not (
        wall.minute in schedule.minutes and wall.hour in schedule.hours and wall.month in schedule.months
    ):
        return False
    day, weekday = wall.day in schedule.days, wall.isoweekday() % 7 in schedule.weekdays
    if len(schedule.days) == 31 or len(schedule.weekdays) == 7:
        return day and weekday
    return day or weekday


def changes(zone: str, first_year: int, last_year: int) -> list[datetime]:
    """Return when the clocks of a zone are set, to six hours."""
    place = ZoneInfo(zone)
    at, found = datetime(first_year, 1, 1, tzinfo=UTC), []
    offset = at.astimezone(place).utcoffset()
    while at.year <= last_year:
        at += timedelta(hours=6)
        if at.astimezone(place).utcoffset() != offset:
            offset = at.astimezone(place).utcoffset()
            found.append(at)
    return found
