"""A schedule in wall-clock time; the time zone belongs to the entry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import attrs

from trio_graphile._cron.fields import FIELDS, Field, Unreadable, format_field, parse_field
from trio_graphile._exceptions import OptionInvalid

_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MINUTE = timedelta(minutes=1)


def _comes(_: object, attribute: attrs.Attribute[Any], value: frozenset[int]) -> None:
    if not value:
        raise OptionInvalid(attribute.name, "at least one number is needed")


@attrs.frozen
class Schedule:
    """Five sets of numbers, Sunday being 0. Raises `OptionInvalid` for days that no calendar has.

    Minute, hour and month must match. If both day and weekday are restricted, one of the two must match;
    otherwise the restricted one must. A set of all numbers is no restriction.
    """

    minutes: frozenset[int] = attrs.field(validator=_comes)
    hours: frozenset[int] = attrs.field(validator=_comes)
    days: frozenset[int] = attrs.field(validator=_comes)
    months: frozenset[int] = attrs.field(validator=_comes)
    weekdays: frozenset[int] = attrs.field(validator=_comes)

    def __attrs_post_init__(self) -> None:
        weekdays_restrict = len(self.weekdays) < 7
        if not weekdays_restrict and all(
            min(self.days) > _LONGEST_MONTHS[month - 1] for month in self.months
        ):
            raise OptionInvalid(
                "day",
                f"there is no day {min(self.days)} in the months {_listed(self.months)}: it never comes",
            )

    def __str__(self) -> str:
        return " ".join(map(format_field, FIELDS, self._sets))

    @property
    def _sets(self) -> tuple[frozenset[int], ...]:
        return (self.minutes, self.hours, self.days, self.months, self.weekdays)

    def after(self, wall: datetime) -> Iterator[datetime]:
        """Yield the times after a wall-clock time; all of them are without a zone."""
        walk = self._walk(wall.replace(second=0, microsecond=0))
        while True:
            yield walk.get_next()

    def before(self, wall: datetime) -> Iterator[datetime]:
        """Yield the times before a wall-clock time, the latest first."""
        minute = wall.replace(second=0, microsecond=0)
        walk = self._walk(minute if minute == wall else minute + MINUTE)
        while True:
            yield walk.get_prev()

    def _walk(self, start: datetime) -> Any:
        # Imported here: most programs have no crontab, and should not pay for it.
        from croniter import croniter  # type: ignore[import-untyped]  # noqa: PLC0415

        # We give croniter only lists and stars, and no zone. On other input it accepts too much (a sixth
        # field, 5-5 for a whole week), takes 1-31 for a restriction, fires skipped times late, and repeated
        # times twice.
        return croniter(" ".join(map(_listed_or_star, FIELDS, self._sets)), start, ret_type=datetime)


def parse_schedule(texts: list[str]) -> Schedule | list[tuple[int, Unreadable]]:
    """Return the schedule in five texts, or the mistake in each wrong one, by its position from 0."""
    wrong: list[tuple[int, Unreadable]] = []
    sets: list[frozenset[int]] = []
    for index, (field, text) in enumerate(zip(FIELDS, texts, strict=True)):
        try:
            sets.append(parse_field(field, text))
        except Unreadable as error:
            wrong.append((index, error))
    if wrong:
        return wrong
    try:
        return Schedule(*sets)
    except OptionInvalid as error:
        return [(2, Unreadable(0, str(error)))]


def _listed_or_star(field: Field, values: frozenset[int]) -> str:
    return "*" if len(values) == len(field.every) else _listed(values)


def _listed(values: frozenset[int]) -> str:
    return ",".join(map(str, sorted(values)))
