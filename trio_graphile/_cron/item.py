"""An entry of a crontab, and the job that it adds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any

import attrs

from trio_graphile._cron.fields import words
from trio_graphile._cron.mistakes import CrontabInvalid, CrontabMistake
from trio_graphile._cron.schedule import Schedule, parse_schedule
from trio_graphile._cron.zones import load_zone
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import JobKeyMode, JobSpec, NewJob, check_identifier
from trio_graphile._model.json import decode, encode
from trio_graphile._model.validators import check_kind, seconds

CRON_KEY = "_cron"
LONGEST_BACKFILL = 315_360_000  # ten years: longer is a mistake


@attrs.frozen(kw_only=True)
class Line:
    """A line of a crontab, by which mistakes are located."""

    source: str
    number: int
    text: str

    def mistake(self, column: int, reason: str) -> CrontabMistake:
        """Return a mistake in this line; columns count from 1."""
        return CrontabMistake(
            source=self.source, line=self.number, column=column, text=self.text, reason=reason
        )


def _schedule(value: Schedule | str) -> Schedule:
    if isinstance(value, Schedule):
        return value
    check_kind("schedule", value, str, '"0 8 * * mon-fri"')
    return read_schedule(value)


def read_schedule(text: str) -> Schedule:
    """Return the schedule in a text of five fields. Raises `CrontabInvalid`."""
    line = Line(source="schedule", number=1, text=text)
    fields = words(text)
    if len(fields) != 5:
        reason = f"five fields are needed (minute hour day month weekday), not {len(fields)}"
        raise CrontabInvalid([line.mistake(1, reason)])
    found = parse_schedule([field[0] for field in fields])
    if isinstance(found, Schedule):
        return found
    raise CrontabInvalid(
        [line.mistake(fields[index].start() + error.offset + 1, error.reason) for index, error in found]
    )


def _identifier(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value or "\0" in value:
        raise OptionInvalid(attribute.name, f"a text without NUL is needed, not {value!r}")


def _task_identifier(_: object, __: object, value: str) -> None:
    check_identifier(value)


def _zone(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    check_kind(attribute.name, value, str, '"Europe/Paris"')
    load_zone(value)


def _whole(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not float(value).is_integer():
        raise OptionInvalid(attribute.name, f"whole seconds are needed, not {value}")


def _object(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    check_kind(attribute.name, value, str)
    try:
        payload = decode(value)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise OptionInvalid(attribute.name, "the payload of a recurring job is a JSON object")


def _recurring(_: object, attribute: attrs.Attribute[JobSpec], value: JobSpec) -> None:
    check_kind(attribute.name, value, JobSpec, "JobSpec(priority=1)")
    if value.run_at is not None:
        raise OptionInvalid(f"{attribute.name}.run_at", "the schedule says when; leave it out")
    if value.job_key_mode is JobKeyMode.UNSAFE_DEDUPE:
        raise OptionInvalid(
            f"{attribute.name}.job_key_mode",
            "unsafe_dedupe would add nothing once a job has failed; use replace or preserve_run_at",
        )


def _name_of_task(item: CronItem) -> str:
    return item.task_identifier


@attrs.frozen(kw_only=True)
class CronItem:
    """An entry of a crontab: which job is added, and when. Durations are seconds.

    `parse_crontab` and `Cron` make entries. Raises `OptionInvalid`; for a wrong schedule `CrontabInvalid`.
    """

    schedule: Schedule = attrs.field(converter=_schedule)
    """When it is due: the five fields, as in `"0 8 * * mon-fri"`."""
    task_identifier: str = attrs.field(validator=_task_identifier)
    identifier: str = attrs.field(
        default=attrs.Factory(_name_of_task, takes_self=True), validator=_identifier
    )
    """The name under which workers agree on the jobs they added. Defaults to the identifier of the task; a
    second entry for a task needs a name of its own."""
    zone: str = attrs.field(default="UTC", validator=_zone)
    """The time zone of the schedule. A time that its clocks skip is left out; a repeated one counts once."""
    backfill_period: float = attrs.field(
        default=0.0, validator=[seconds(LONGEST_BACKFILL, zero=True), _whole]
    )
    """How far back a worker looks, when it starts, for times at which no worker was running."""
    payload_json: str = attrs.field(default="{}", validator=_object, repr=False)
    """The payload, a JSON object. Not shown in the entry's representation: it may hold secrets."""
    spec: JobSpec = attrs.field(factory=JobSpec, validator=_recurring)
    """How the job is added; its `run_at` is the time of the schedule."""
    line: Line | None = attrs.field(default=None, eq=False, repr=False)
    """The line of the crontab from which the entry was read; None if it was made in code."""

    @property
    def payload(self) -> dict[str, Any]:
        """The payload as plain Python values, decoded anew at each access."""
        return decode(self.payload_json)  # type: ignore[no-any-return]  # the validator has checked it

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone itself."""
        return load_zone(self.zone)


def cron_items(items: Iterable[CronItem]) -> tuple[CronItem, ...]:
    """Return entries as a tuple. Raises `OptionInvalid` for what is none, such as the text of a crontab."""
    items = tuple(items)
    for item in items:
        if not isinstance(item, CronItem):
            raise OptionInvalid(
                "crontab", f"entries are needed, by parse_crontab(text) or Cron, not {item!r}"
            )
    return items


def job_of_item(item: CronItem, at: datetime, *, backfilled: bool) -> NewJob:
    """Return the job that an entry adds for one of its times."""
    return NewJob(
        item.task_identifier,
        payload_at(item.payload, at, backfilled=backfilled),
        attrs.evolve(item.spec, run_at=at),
    )


def payload_at(payload: dict[str, Any], at: datetime, *, backfilled: bool) -> str:
    """Return a payload as JSON text, with `_cron` added: its time, and whether that was made up for."""
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return encode({**payload, CRON_KEY: {"ts": time, "backfilled": backfilled}})
