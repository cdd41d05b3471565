"""Recurring jobs in code: entries of a crontab whose payloads are checked by type."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

import attrs

from trio_graphile._cron.crontab import mistake_of, repeated_identifiers
from trio_graphile._cron.fields import FIELDS
from trio_graphile._cron.item import CronItem, cron_items, payload_at
from trio_graphile._cron.mistakes import CrontabInvalid, CrontabMistake
from trio_graphile._exceptions import OptionInvalid, PayloadInvalid
from trio_graphile._model.jobs import JobSpec, check_task
from trio_graphile._model.json import decode
from trio_graphile._model.similar import did_you_mean
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._tasks.task import Task

PayloadT = TypeVar("PayloadT")
Weekday: TypeAlias = Literal["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

_SOME_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class CronSettings(TypedDict, total=False):
    """The fields of `CronItem` that every entry may have."""

    identifier: str
    zone: str
    backfill_period: float
    spec: JobSpec


class Cron:
    """Makes entries of a crontab for tasks of this program: `Worker(..., crontab=[Cron.daily_at(...)])`.

    All methods take the task, its `payload` unless it has none, and fields of `CronItem`: `identifier`, which
    a second entry for the same task needs, `zone`, `backfill_period` and `spec`. They raise `OptionInvalid`
    for times that never come and for what is no task, and `PayloadInvalid` for a payload that the task
    could not read.
    """

    @overload
    @staticmethod
    def from_text(task: Task[None], text: str, **settings: Unpack[CronSettings]) -> CronItem: ...
    @overload
    @staticmethod
    def from_text(
        task: Task[PayloadT], text: str, *, payload: PayloadT, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @staticmethod
    def from_text(
        task: Task[Any], text: str, *, payload: Any = None, **settings: Unpack[CronSettings]
    ) -> CronItem:
        """At the times of a text of five fields, such as `"0 8 * * mon-fri"`. Raises `CrontabInvalid`."""
        return _item(task, text, payload, settings)

    @overload
    @staticmethod
    def every_minute(task: Task[None], **settings: Unpack[CronSettings]) -> CronItem: ...
    @overload
    @staticmethod
    def every_minute(
        task: Task[PayloadT], *, payload: PayloadT, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @staticmethod
    def every_minute(task: Task[Any], *, payload: Any = None, **settings: Unpack[CronSettings]) -> CronItem:
        """Every minute."""
        return _item(task, "* * * * *", payload, settings)

    @overload
    @staticmethod
    def every_minutes(task: Task[None], count: int, **settings: Unpack[CronSettings]) -> CronItem: ...
    @overload
    @staticmethod
    def every_minutes(
        task: Task[PayloadT], count: int, *, payload: PayloadT, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @staticmethod
    def every_minutes(
        task: Task[Any], count: int, *, payload: Any = None, **settings: Unpack[CronSettings]
    ) -> CronItem:
        """Every so many minutes, from 1 to 59, counted anew from each full hour."""
        return _item(task, f"*/{_within('count', count, 1, 59)} * * * *", payload, settings)

    @overload
    @staticmethod
    def hourly_at(task: Task[None], *, minute: int, **settings: Unpack[CronSettings]) -> CronItem: ...
    @overload
    @staticmethod
    def hourly_at(
        task: Task[PayloadT], *, minute: int, payload: PayloadT, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @staticmethod
    def hourly_at(
        task: Task[Any], *, minute: int, payload: Any = None, **settings: Unpack[CronSettings]
    ) -> CronItem:
        """Every hour, at a minute."""
        return _item(task, _fields(minute), payload, settings)

    @overload
    @staticmethod
    def daily_at(
        task: Task[None], *, hour: int, minute: int = 0, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @overload
    @staticmethod
    def daily_at(
        task: Task[PayloadT],
        *,
        hour: int,
        minute: int = 0,
        payload: PayloadT,
        **settings: Unpack[CronSettings],
    ) -> CronItem: ...
    @staticmethod
    def daily_at(
        task: Task[Any],
        *,
        hour: int,
        minute: int = 0,
        payload: Any = None,
        **settings: Unpack[CronSettings],
    ) -> CronItem:
        """Every day, at a time."""
        return _item(task, _fields(minute, hour), payload, settings)

    @overload
    @staticmethod
    def weekly_on(
        task: Task[None], weekday: Weekday, *, hour: int, minute: int = 0, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @overload
    @staticmethod
    def weekly_on(
        task: Task[PayloadT],
        weekday: Weekday,
        *,
        hour: int,
        minute: int = 0,
        payload: PayloadT,
        **settings: Unpack[CronSettings],
    ) -> CronItem: ...
    @staticmethod
    def weekly_on(
        task: Task[Any],
        weekday: Weekday,
        *,
        hour: int,
        minute: int = 0,
        payload: Any = None,
        **settings: Unpack[CronSettings],
    ) -> CronItem:
        """Every week, on a day from `"sun"` to `"sat"`, at a time."""
        days = FIELDS[-1].names
        if weekday not in days:
            raise OptionInvalid("weekday", f"{weekday!r} is not one of {', '.join(days)}")
        return _item(task, _fields(minute, hour, weekday=weekday), payload, settings)

    @overload
    @staticmethod
    def monthly_on(
        task: Task[None], day: int, *, hour: int, minute: int = 0, **settings: Unpack[CronSettings]
    ) -> CronItem: ...
    @overload
    @staticmethod
    def monthly_on(
        task: Task[PayloadT],
        day: int,
        *,
        hour: int,
        minute: int = 0,
        payload: PayloadT,
        **settings: Unpack[CronSettings],
    ) -> CronItem: ...
    @staticmethod
    def monthly_on(
        task: Task[Any],
        day: int,
        *,
        hour: int,
        minute: int = 0,
        payload: Any = None,
        **settings: Unpack[CronSettings],
    ) -> CronItem:
        """Every month that has the day, at a time."""
        return _item(task, _fields(minute, hour, day), payload, settings)

    @overload
    @staticmethod
    def yearly_on(
        task: Task[None],
        month: int,
        day: int,
        *,
        hour: int,
        minute: int = 0,
        **settings: Unpack[CronSettings],
    ) -> CronItem: ...
    @overload
    @staticmethod
    def yearly_on(
        task: Task[PayloadT],
        month: int,
        day: int,
        *,
        hour: int,
        minute: int = 0,
        payload: PayloadT,
        **settings: Unpack[CronSettings],
    ) -> CronItem: ...
    @staticmethod
    def yearly_on(
        task: Task[Any],
        month: int,
        day: int,
        *,
        hour: int,
        minute: int = 0,
        payload: Any = None,
        **settings: Unpack[CronSettings],
    ) -> CronItem:
        """Every year that has the day, at a time."""
        return _item(task, _fields(minute, hour, day, month), payload, settings)


def fit_crontab(items: Iterable[CronItem], tasks: TaskRegistry) -> tuple[CronItem, ...]:
    """Return the entries with the defaults of their tasks, as a worker adds their jobs.

    Raises `CrontabInvalid` for tasks that are not registered, payloads that they could not read, and
    identifiers that two entries share.
    """
    items = cron_items(items)
    mistakes = [
        *repeated_identifiers(items),
        *(mistake for item in items for mistake in _misfit(item, tasks)),
    ]
    if mistakes:
        raise CrontabInvalid(mistakes)
    return tuple(
        attrs.evolve(item, spec=tasks[item.task_identifier].complete_spec(item.spec)) for item in items
    )


def _misfit(item: CronItem, tasks: TaskRegistry) -> Iterable[CrontabMistake]:
    name = item.task_identifier
    if name not in tasks:
        hint = did_you_mean(name, tasks.identifiers, otherwise="")
        yield mistake_of(item, f"no task {name!r} is registered{hint}")
        return
    try:
        _check_payload(tasks[name], item.payload)
    except PayloadInvalid as error:
        yield mistake_of(item, str(error))


def _item(task: Task[Any], schedule: str, payload: Any, settings: CronSettings) -> CronItem:
    check_task(task, "parse_crontab and CronItem take identifiers")
    payload_json = task.to_json(payload)
    plain = decode(payload_json)
    if not isinstance(plain, dict):
        raise PayloadInvalid(task.identifier, ["the payload of a recurring job is an object @ $"])
    _check_payload(task, plain)
    return CronItem(schedule=schedule, task_identifier=task.identifier, payload_json=payload_json, **settings)


def _check_payload(task: Task[Any], payload: dict[str, Any]) -> None:
    """Raise `PayloadInvalid` unless the task can read a payload to which `_cron` is added."""
    task.from_json(payload_at(payload, _SOME_TIME, backfilled=False))


def _fields(*given: int, weekday: str = "*") -> str:
    """Return a schedule: minute, hour, day and month, as far as they are given, and a weekday."""
    numbers = [
        str(_within(field.name, value, field.every[0], field.every[-1]))
        for field, value in zip(FIELDS, given, strict=False)
    ]
    return " ".join([*numbers, *["*"] * (4 - len(given)), weekday])


def _within(name: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise OptionInvalid(name, f"a whole number from {least} to {most} is needed, not {value!r}")
    return value
