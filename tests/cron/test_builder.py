"""Entries made in code: what the constructors mean, and what they refuse at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from trio_graphile import (
    Cron,
    CronItem,
    CrontabInvalid,
    JobSpec,
    OptionInvalid,
    PayloadInvalid,
    TaskRegistry,
    parse_crontab,
)
from trio_graphile._tasks.cron import fit_crontab

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Report:
    to: str
    copies: int = 1


@tasks.task("tick")
async def tick() -> None: ...


@tasks.task("report", queue_name="mail", max_attempts=5, priority=2)
async def report(payload: Report) -> None: ...


@tasks.task("count")
async def count(payload: int) -> None: ...


@tasks.task("strict")
async def strict(payload: dict[str, int]) -> None: ...


@tasks.task("open")
async def open_minded(payload: dict[str, Any]) -> None: ...


@tasks.batch_task("batch")
async def batch(items: list[int]) -> None: ...


SCHEDULES: dict[str, Callable[[], CronItem]] = {
    "* * * * *": lambda: Cron.every_minute(tick),
    "*/5 * * * *": lambda: Cron.every_minutes(tick, 5),
    "0 * * * *": lambda: Cron.every_minutes(tick, 59),
    "30 * * * *": lambda: Cron.hourly_at(tick, minute=30),
    "0 8 * * *": lambda: Cron.daily_at(tick, hour=8),
    "59 23 * * *": lambda: Cron.daily_at(tick, hour=23, minute=59),
    "15 0 * * 0": lambda: Cron.weekly_on(tick, "sun", hour=0, minute=15),
    "0 12 * * 6": lambda: Cron.weekly_on(tick, "sat", hour=12),
    "0 6 31 * *": lambda: Cron.monthly_on(tick, 31, hour=6),
    "1 2 29 2 *": lambda: Cron.yearly_on(tick, 2, 29, hour=2, minute=1),
    "*/10 8-18 * * 1-5": lambda: Cron.from_text(tick, "*/10 8-18 * * mon-fri"),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_constructors_say_the_five_fields(schedule: str) -> None:
    item = SCHEDULES[schedule]()
    if schedule != "0 * * * *":
        assert str(item.schedule) == schedule
    else:
        assert str(item.schedule) == "0,59 * * * *"
    assert (item.task_identifier, item.identifier, item.payload_json) == ("tick", "tick", "{}")


def test_an_entry_carries_its_payload_and_all_that_is_said_of_it() -> None:
    spec = JobSpec(
        queue_name="q", max_attempts=3, priority=0, job_key="k", job_key_mode="preserve_run_at", flags=["f"]
    )
    item = Cron.daily_at(
        report,
        hour=8,
        payload=Report(to="ada"),
        identifier="morning",
        zone="Europe/Paris",
        backfill_period=86_400,
        spec=spec,
    )
    assert item == CronItem(
        schedule="0 8 * * *",
        task_identifier="report",
        identifier="morning",
        zone="Europe/Paris",
        backfill_period=86_400.0,
        payload_json='{"to":"ada","copies":1}',
        spec=spec,
    )


NOTHING: Any = None
WRONG_TIMES: dict[str, Callable[[], CronItem]] = {
    "minute: a whole number from 0 to 59 is needed, not 60": lambda: Cron.hourly_at(tick, minute=60),
    "hour: a whole number from 0 to 23 is needed, not -1": lambda: Cron.daily_at(tick, hour=-1),
    "hour: a whole number from 0 to 23 is needed, not True": lambda: Cron.daily_at(tick, hour=True),
    "hour: a whole number from 0 to 23 is needed, not None": lambda: Cron.daily_at(tick, hour=NOTHING),
    "minute: a whole number from 0 to 59 is needed, not None": lambda: Cron.hourly_at(tick, minute=NOTHING),
    "day: a whole number from 1 to 31 is needed, not None": lambda: Cron.monthly_on(tick, NOTHING, hour=1),
    "month: a whole number from 1 to 12 is needed, not None": lambda: Cron.yearly_on(
        tick, NOTHING, 1, hour=1
    ),
    "schedule: a str is needed": lambda: Cron.from_text(tick, NOTHING),
    "day: a whole number from 1 to 31 is needed, not 0": lambda: Cron.monthly_on(tick, 0, hour=1),
    "month: a whole number from 1 to 12 is needed, not 13": lambda: Cron.yearly_on(tick, 13, 1, hour=1),
    "count: a whole number from 1 to 59 is needed, not 0": lambda: Cron.every_minutes(tick, 0),
    "count: a whole number from 1 to 59 is needed, not 60": lambda: Cron.every_minutes(tick, 60),
    "weekday: 'sunday' is not one of sun, mon": lambda: Cron.weekly_on(tick, "sunday", hour=1),  # type: ignore[call-overload]
    "day: there is no day 30 in the months 2": lambda: Cron.yearly_on(tick, 2, 30, hour=1),
    "zone: there is no time zone 'Mars'": lambda: Cron.every_minute(tick, zone="Mars"),
    "backfill_period: 1000000000000 seconds": lambda: Cron.every_minute(tick, backfill_period=1e12),
    "spec.job_key_mode: unsafe_dedupe": lambda: Cron.every_minute(
        tick, spec=JobSpec(job_key="k", job_key_mode="unsafe_dedupe")
    ),
}


@pytest.mark.parametrize("reason", WRONG_TIMES)
def test_times_and_options_that_cannot_be_right_are_refused_on_the_spot(reason: str) -> None:
    with pytest.raises((OptionInvalid, CrontabInvalid)) as raised:
        WRONG_TIMES[reason]()
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (
            "tick",
            "a task is needed, not the string 'tick': parse_crontab and CronItem take identifiers",
        ),
        (test_constructors_say_the_five_fields, 'itself: @tasks.task("...") makes a task of a function'),
        (None, "task: a task is needed, as @tasks.task makes it, not None"),
    ],
)
def test_what_is_no_task_is_refused_on_the_spot(task: Any, reason: str) -> None:
    with pytest.raises(OptionInvalid) as raised:
        Cron.every_minute(task)
    assert reason in str(raised.value)
    with pytest.raises(OptionInvalid) as raised:
        Cron.from_text(task, "0 * * * *", payload={})
    assert reason in str(raised.value)


def test_a_text_is_refused_with_all_its_mistakes() -> None:
    with pytest.raises(CrontabInvalid) as raised:
        Cron.from_text(tick, "60 * 0 * mon-fri")
    assert [(mistake.column, mistake.reason[:9]) for mistake in raised.value.mistakes] == [
        (1, "minute: '"),
        (6, "day: '0' "),
    ]


WRONG_PAYLOADS: dict[str, Callable[[], CronItem]] = {
    "expected": lambda: Cron.every_minute(report, payload=5),  # type: ignore[misc]
    "expected Report": lambda: Cron.every_minute(report),  # type: ignore[arg-type]
    "the payload of a recurring job is an object @ $": lambda: Cron.every_minute(count, payload=5),
    "is an object": lambda: Cron.every_minute(batch, payload=[5]),
    "$['_cron']": lambda: Cron.every_minute(strict, payload={"a": 1}),
}


@pytest.mark.parametrize("reason", WRONG_PAYLOADS)
def test_a_payload_that_the_task_could_not_read_is_refused_on_the_spot(reason: str) -> None:
    """Among them one of plain numbers by name, into which what the job is told of its time does not fit."""
    with pytest.raises(PayloadInvalid) as raised:
        WRONG_PAYLOADS[reason]()
    assert reason in str(raised.value)


# --- a worker's crontab -------------------------------------------------------------------------


def test_entries_are_fitted_with_what_their_tasks_want() -> None:
    built = Cron.every_minute(report, payload=Report(to="ada"), spec=JobSpec(priority=0))
    read = parse_crontab("0 8 * * * report ?id=read&queue=other {to: 'grace'}\n* * * * * tick")
    fitted = fit_crontab([built, *read], tasks)
    assert [item.spec for item in fitted] == [
        JobSpec(priority=0, queue_name="mail", max_attempts=5),
        JobSpec(priority=2, queue_name="other", max_attempts=5),
        JobSpec(),
    ]


def test_all_that_does_not_fit_is_said_at_once() -> None:
    items = [
        *parse_crontab(
            "* * * * * reprot {to: 'ada'}\n"
            "* * * * * report ?id=b {too: 'ada', copies: 'x'}\n"
            "* * * * * count\n"
            "* * * * * open {a: 1}\n",
            source="jobs.cron",
        ),
        CronItem(schedule="* * * * *", task_identifier="tick", identifier="count"),
        Cron.every_minute(tick),
    ]
    with pytest.raises(CrontabInvalid) as raised:
        fit_crontab(items, tasks)
    found = [(mistake.source, mistake.line, mistake.column) for mistake in raised.value.mistakes]
    assert found == [(None, None, None), ("jobs.cron", 1, 11), ("jobs.cron", 2, 11), ("jobs.cron", 3, 11)]
    text = str(raised.value)
    assert "entry 'count': there is an entry 'count' already in line 3" in text
    assert "jobs.cron:1:11: no task 'reprot' is registered; did you mean report?" in text
    assert "jobs.cron:2:11: payload of task 'report': " in text
    assert "jobs.cron:3:11: payload of task 'count': " in text


@pytest.mark.parametrize("crontab", ["* * * * * tick", [("* * * * *", "tick")]])
def test_what_is_not_parsed_is_refused(crontab: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"crontab: entries are needed, by parse_crontab\(text\) or Cron"):
        fit_crontab(crontab, tasks)
