"""A schedule in words. No two schedules have the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trio_graphile._cron.item import CronItem
from trio_graphile._cron.schedule import Schedule

_MOST_TIMES = 6  # more of them are described, not listed
_DAYS = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_HOURS = range(24)
_MINUTES = range(60)


def describe(item: CronItem) -> str:
    """Return when an entry is due, in words; the zone is named unless it is UTC."""
    words = describe_schedule(item.schedule)
    return words if item.zone == "UTC" else f"{words} in {item.zone}"


def describe_schedule(schedule: Schedule) -> str:
    """Return the days and times of a schedule, in words."""
    days = _days(schedule)
    often = _often(sorted(schedule.minutes), sorted(schedule.hours))
    if often is not None:
        return often if days == "every day" else f"{often}, {days}"
    return f"{days} {_times(sorted(schedule.minutes), sorted(schedule.hours))}"


# --- days -----------------------------------------------------------------------------------------


def _days(schedule: Schedule) -> str:
    months = sorted(schedule.months)
    in_months = "" if len(months) == 12 else " in " + _and([_MONTHS[month - 1] for month in months])
    of_month = len(schedule.days) < 31
    of_week = len(schedule.weekdays) < 7
    if not of_month:
        return (_of_week(sorted(schedule.weekdays)) if of_week else "every day") + in_months
    each = " of each month" if not in_months else in_months.replace(" in ", " of ", 1)
    by_number = f"on the {_and(list(_spans(sorted(schedule.days), _ordinal)))}{each}"
    # If both day and weekday restrict, one of the two must match.
    return f"{by_number} and also {_of_week(sorted(schedule.weekdays))}{in_months}" if of_week else by_number


def _of_week(weekdays: Sequence[int]) -> str:
    if list(weekdays) == [1, 2, 3, 4, 5]:
        return "on weekdays"
    if list(weekdays) == [0, 6]:
        return "at weekends"
    return "on " + _and([_DAYS[day] for day in sorted(weekdays, key=lambda day: (day - 1) % 7)])


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number in (11, 12, 13) else endings.get(number % 10, 'th')}"


# --- times of a day -------------------------------------------------------------------------------


def _often(minutes: list[int], hours: list[int]) -> str | None:
    """Return words for times at equal distances, all day or from one hour to another."""
    step = _step(minutes, _MINUTES)
    every_hours = _step(hours, _HOURS)
    if step is not None:
        rhythm = "every minute" if step == 1 else f"every {step} minutes"
        if every_hours == 1:
            return rhythm
        if _runs(hours):
            return f"{rhythm} from {hours[0]:02}:00 to {hours[-1]:02}:{minutes[-1]:02}"
    elif len(minutes) == 1 and every_hours is not None:
        rhythm = "every hour" if every_hours == 1 else f"every {every_hours} hours"
        return rhythm if minutes == [0] else f"{rhythm} from 00:{minutes[0]:02}"
    elif len(minutes) == 1 and _runs(hours) and len(hours) > 2:
        return f"every hour from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[0]:02}"
    return None


def _times(minutes: list[int], hours: list[int]) -> str:
    if len(minutes) * len(hours) <= _MOST_TIMES:
        return "at " + _and([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes])
    of_hours = "every hour" if len(hours) == 24 else f"the {_plural('hour', hours)}"
    if len(minutes) == 60:
        return f"in every minute of {of_hours}"
    return f"at {_plural('minute', minutes)} of {of_hours}"


def _step(values: list[int], whole: range) -> int | None:
    """Return the distance of values that are equally far apart, counted round from the first of all."""
    if len(values) < 2 or len(whole) % len(values) != 0:
        return None
    step = len(whole) // len(values)
    return step if values == list(whole[::step]) else None


def _runs(values: list[int]) -> bool:
    return values == list(range(values[0], values[-1] + 1))


def _plural(noun: str, values: list[int]) -> str:
    return f"{noun}{'s' if len(values) > 1 else ''} {_and(list(_spans(values, str)))}"


def _spans(values: Sequence[int], name: Callable[[int], str]) -> Iterator[str]:
    """Yield the names of values; three or more in a row become a span."""
    begin = 0
    for end in range(len(values)):
        if end + 1 < len(values) and values[end + 1] == values[end] + 1:
            continue
        if end - begin >= 2:
            yield f"{name(values[begin])} to {name(values[end])}"
        else:
            yield from map(name, values[begin : end + 1])
        begin = end + 1


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
