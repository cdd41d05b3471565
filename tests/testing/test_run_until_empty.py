"""What is due runs, and what becomes due, without waiting for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.worker.process_tasks import tasks as process_tasks
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    OptionInvalid,
    Snooze,
    TaskRegistry,
    WorkerOptions,
)
from trio_graphile.hooks import JobCompleted
from trio_graphile.testing import FinishedRun, Observed, RunFailed, added_jobs, run_until_empty

HOUR = timedelta(hours=1)
tasks = TaskRegistry()


@tasks.task("note")
async def note(text: str, context: JobContext) -> None:
    context.state.append(text)


@tasks.task("parent")
async def parent(context: JobContext) -> None:
    await context.client.add_job(note, "child")
    await context.client.add_job(note, "later child", JobSpec(run_at=datetime.now(UTC) + HOUR))


@tasks.task("bad", retry=[60, 600], max_attempts=3)
async def bad() -> None:
    raise ValueError("no such luck")


@tasks.task("sleepy")
async def sleepy(context: JobContext) -> None:
    if len(context.state) < 3:
        context.state.append("snoozed")
        raise Snooze(HOUR.total_seconds())


@tasks.task("settling")
async def settling(context: JobContext) -> None:
    async with context.complete_in_transaction():
        pass


def brief(runs: list[FinishedRun]) -> list[tuple[str, str, int]]:
    return [(run.task, run.outcome, run.job.attempts) for run in runs]


async def due_times(database: Database) -> list[datetime]:
    return [each.job.run_at for each in await added_jobs(database)]


async def test_what_is_due_and_what_it_adds_runs_in_order(database: Database) -> None:
    seen: list[str] = []
    client = Client(database, tasks)
    await client.add_job(note, "last", JobSpec(priority=1))
    await client.add_job(parent, None, JobSpec(priority=-1))
    await client.add_job(settling, None)
    runs = await run_until_empty(database, tasks, state=seen)
    assert brief(runs) == [
        ("parent", "completed", 1),
        ("settling", "completed", 1),
        ("note", "completed", 1),
        ("note", "completed", 1),
    ]
    assert seen == ["child", "last"]
    assert [each.payload for each in await added_jobs(client)] == ["later child"]


async def test_what_becomes_due_runs_each_job_at_its_turn(database: Database) -> None:
    seen: list[str] = []
    client = Client(database, tasks)
    now = await database.fetch_value("select now()")
    for hours in (3, 1, 2, 50):
        await client.add_job(note, f"in {hours}", JobSpec(run_at=now + hours * HOUR))
    await run_until_empty(database, tasks, until=now + 3 * HOUR, state=seen)
    assert seen == ["in 1", "in 2", "in 3"]
    assert await due_times(database) == [now + 50 * HOUR]


async def test_what_a_handler_adds_for_later_counts_from_its_own_due_time(database: Database) -> None:
    seen: list[str] = []
    now = await database.fetch_value("select now()")
    await Client(database).add_job(parent, None, JobSpec(run_at=now + 5 * HOUR))
    await run_until_empty(database, tasks, until=now + 5.9 * HOUR, state=seen)
    assert seen == ["child"]
    [later] = await due_times(database)
    assert 6 * HOUR <= later - now < 6.1 * HOUR
    await run_until_empty(database, tasks, until=now + 6.1 * HOUR, state=seen)
    assert seen == ["child", "later child"]


async def test_snoozed_jobs_run_again(database: Database) -> None:
    await Client(database).add_job(sleepy, None)
    runs = await run_until_empty(database, tasks, until=2.5 * HOUR, state=[])
    assert brief(runs) == [("sleepy", "snoozed", 1)] * 3
    assert [run.delay for run in runs] == [3600] * 3
    assert brief(await run_until_empty(database, tasks, until=4 * HOUR, state=[1] * 3)) == [
        ("sleepy", "completed", 1)
    ]


async def test_retries_come_after_their_delays(database: Database) -> None:
    await Client(database).add_job(bad, None)
    runs = await run_until_empty(database, tasks, until=10 * HOUR, raise_failures=False)
    assert brief(runs) == [("bad", "failed", attempt) for attempt in (1, 2, 3)]
    assert [(run.delay, run.is_permanent) for run in runs] == [(60, False), (600, False), (None, True)]
    assert all(isinstance(run.error, ValueError) for run in runs)
    await Client(database).add_job(bad, None)
    early = await run_until_empty(database, tasks, until=timedelta(seconds=59), raise_failures=False)
    assert brief(early) == [("bad", "failed", 1)]


async def test_a_failure_is_raised_with_the_traceback_of_the_handler(database: Database) -> None:
    seen: list[str] = []
    client = Client(database)
    job = await client.add_job(bad, None)
    await client.add_job(note, "all the same")
    with pytest.raises(ValueError, match="no such luck") as raised:
        await run_until_empty(database, tasks, until=HOUR, state=seen)
    assert raised.traceback[-1].name == "bad"
    assert raised.value.__notes__ == [f"job {job.id} (bad) failed, attempt 1 of 3"]
    assert seen == ["all the same"]


async def test_failures_are_raised_together(database: Database) -> None:
    await Client(database).add_jobs([(bad, None)] * 2)
    with pytest.RaisesGroup(ValueError, ValueError, match="2 runs failed"):
        await run_until_empty(database, tasks)


async def test_a_failure_without_an_exception_is_raised_too(database: Database) -> None:
    await Client(database).add_raw_job("briefly_busy")
    with pytest.raises(RunFailed, match=r"its timeout of 0.3 s"):
        await run_until_empty(database, process_tasks)


async def test_due_times_are_their_own_again_after_a_failure(database: Database) -> None:
    now = await database.fetch_value("select now()")
    client = Client(database)
    await client.add_job(bad, None, JobSpec(run_at=now + HOUR))
    await client.add_job(note, "later", JobSpec(run_at=now + 5 * HOUR))
    with pytest.raises(ValueError, match="no such luck"):
        await run_until_empty(database, tasks, until=2 * HOUR, state=[])
    assert max(await due_times(database)) == now + 5 * HOUR


async def test_plugins_and_options_are_those_of_the_worker(database: Database) -> None:
    observed = Observed()
    client = Client(database)
    await client.add_job(note, "a", JobSpec(flags=["no"]))
    await client.add_job(note, "b")
    options = WorkerOptions(forbidden_flags=["no"])
    await run_until_empty(database, tasks, options, state=[], plugins=[observed])
    assert [event.job.payload for event in observed.of(JobCompleted)] == ["b"]


async def test_a_time_needs_a_zone(database: Database) -> None:
    with pytest.raises(OptionInvalid, match="has no time zone"):
        await run_until_empty(database, tasks, until=datetime(2999, 1, 1), state=[])  # noqa: DTZ001


async def test_another_kind_of_value_is_refused(database: Database) -> None:
    wrong: Any = 60
    with pytest.raises(OptionInvalid, match=r"^until: a datetime or a timedelta is needed, not a value of"):
        await run_until_empty(database, tasks, until=wrong)
    with pytest.raises(OptionInvalid, match=r"^options: a WorkerOptions is needed, not a value of"):
        await run_until_empty(database, tasks, wrong)
