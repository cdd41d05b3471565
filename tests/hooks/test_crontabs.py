"""What is told of recurring jobs, and who has a say in them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.hooks.recorder import Recorder
from tests.support.handlers import Handlers
from tests.support.workers import NEVER, running
from tests.worker.clocks import NOON, HandClock
from trio_graphile import (
    CronItem,
    Database,
    JobSpec,
    TaskRegistry,
    Worker,
    WorkerOptions,
    parse_crontab,
)
from trio_graphile.hooks import (
    CronFailed,
    CronJobScheduled,
    CronStarted,
    CronTicked,
    Fail,
    Hooks,
    JobToAdd,
    Rewrite,
    Skip,
)

HELD_BACK = "held_back"


def crontab() -> tuple[CronItem, ...]:
    items = parse_crontab("* * * * * quick ?id=each\n*/2 * * * * held ?id=second {a: 1}")
    return tuple(attrs.evolve(item, spec=JobSpec(flags=[HELD_BACK])) for item in items)


def cron_worker(database: Database, tasks: TaskRegistry, clock: HandClock, *plugins: Any) -> Worker:
    options = WorkerOptions(poll_interval=NEVER, forbidden_flags=[HELD_BACK])
    return Worker(database, tasks, options, crontab=crontab(), clock=clock, plugins=plugins)


async def last_executions(database: Database) -> dict[str, object]:
    rows = await database.fetch(
        "select identifier, last_execution from graphile_worker._private_known_crontabs"
    )
    return {row["identifier"]: row["last_execution"] for row in rows}


async def stored_payloads(database: Database) -> list[Any]:
    rows = await database.fetch("""
        select jobs.task_identifier as task, raw.payload
        from graphile_worker.jobs as jobs
        join graphile_worker._private_jobs as raw using (id)
        order by id
    """)
    return [(row["task"], row["payload"]) for row in rows]


async def test_ticks_and_what_they_add_are_told(database: Database, handlers: Handlers) -> None:
    recorder, clock = Recorder(), HandClock(NOON.replace(second=30))
    async with running(cron_worker(database, handlers.tasks, clock, recorder)):
        await recorder.wait_for(CronStarted)
        for _ in range(3):
            await clock.wait_idle()
            await clock.advance(60)
        await recorder.wait_for(CronTicked, count=3)
    assert recorder.of(CronStarted)[0].entries == ("each", "second")
    ticks = [
        (event.at.minute, [item.identifier for item in event.entries]) for event in recorder.of(CronTicked)
    ]
    assert ticks == [(1, ["each"]), (2, ["each", "second"]), (3, ["each"])]
    added = [(event.at.minute, event.entry.identifier) for event in recorder.of(CronJobScheduled)]
    assert added == [(1, "each"), (2, "each"), (2, "second"), (3, "each")]
    rows = await database.fetch("select id from graphile_worker._private_jobs order by id")
    assert [event.job_id for event in recorder.of(CronJobScheduled)] == [row["id"] for row in rows]


async def test_of_two_workers_one_tells_of_each_job(database: Database, handlers: Handlers) -> None:
    recorder = Recorder()
    clocks = [HandClock(NOON.replace(second=30)) for _ in range(2)]
    async with (
        running(cron_worker(database, handlers.tasks, clocks[0], recorder)),
        running(cron_worker(database, handlers.tasks, clocks[1], recorder)),
    ):
        for clock in clocks:
            await clock.wait_idle()
            await clock.advance(60)
        await recorder.wait_for(CronTicked, count=2)
    assert len(recorder.of(CronJobScheduled)) == 1


@pytest.mark.parametrize(
    ("answer", "stored"),
    [
        (lambda _: None, {"a": 1}),
        (lambda job: Rewrite({**job.payload, "a": 2}), {"a": 2}),
        (lambda _: Skip("not today"), None),
        (lambda _: Fail("never"), None),
        (lambda _: 1 / 0, None),
    ],
)
async def test_recurring_jobs_are_intercepted_and_their_times_count_as_done(
    database: Database, handlers: Handlers, answer: Any, stored: dict[str, int] | None
) -> None:
    hooks, recorder, clock, asked = Hooks(), Recorder(), HandClock(NOON.replace(second=30)), list[JobToAdd]()

    @hooks.before_job_schedule
    def ask(job: JobToAdd) -> Any:
        asked.append(job)
        return answer(job) if job.identifier == "held" else None

    async with running(cron_worker(database, handlers.tasks, clock, hooks, recorder)):
        await clock.wait_idle()
        await clock.set(NOON.replace(minute=2))
        await recorder.wait_for(CronJobScheduled, count=2 if stored is None else 3)
    assert {job.operation for job in asked} == {"cron"}
    assert "_cron" in asked[-1].payload
    left = {task: payload for task, payload in await stored_payloads(database)}  # noqa: C416  # the last of each
    if stored is None:
        assert "held" not in left
    else:
        assert {key: value for key, value in left["held"].items() if key != "_cron"} == stored
    done = await last_executions(database)
    assert done == {"each": NOON.replace(minute=2), "second": NOON.replace(minute=2)}


async def test_nothing_of_this_is_told_of_a_database_error(database: Database, handlers: Handlers) -> None:
    """`CronJobScheduled` comes after the write, or not at all."""
    recorder, clock = Recorder(), HandClock(NOON.replace(second=30))
    async with running(cron_worker(database, handlers.tasks, clock, recorder)):
        await clock.wait_idle()
        await database.execute("alter table graphile_worker._private_known_crontabs rename to gone")
        clock.time = NOON.replace(minute=1)
        clock._was_set.set()
        await recorder.wait_for(CronFailed)
        assert recorder.of(CronJobScheduled) == []
        await database.execute("alter table graphile_worker.gone rename to _private_known_crontabs")
