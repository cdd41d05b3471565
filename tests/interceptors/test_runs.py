"""Interceptors before, after and around a run: what their answers and mistakes do, in every lane."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio

from tests.hooks.recorder import Recorder
from tests.scenarios.tempers import PROCESS_TASKS
from tests.support.handlers import Handlers
from tests.support.lives import Lives, run_once
from tests.support.tables import Table
from tests.support.workers import SOON, running
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    OptionInvalid,
    PermanentFailure,
    RetryAfter,
    Snooze,
    Worker,
    WorkerOptions,
)
from trio_graphile.hooks import (
    Continue,
    Fail,
    Hooks,
    JobEvent,
    JobFailed,
    JobFailedPermanently,
    JobRun,
    JobRunEnd,
    Skip,
)


@pytest.fixture
def lives() -> Lives:
    return Lives()


# --- before a run -------------------------------------------------------------------------------


def before(answer: Callable[[JobRun], Any]) -> Hooks:
    hooks = Hooks()
    hooks.before_job_run(answer)
    return hooks


async def test_a_skipped_job_is_completed_without_its_handler(database: Database, lives: Lives) -> None:
    recorder = Recorder()
    await Client(database).add_raw_job("bad")
    await run_once(database, lives.tasks, before(lambda _: Skip()), recorder)
    assert lives.ran == []
    assert recorder.names(JobEvent) == ["JobTaken", "JobCompleted"]
    assert await database.fetch("select 1 from graphile_worker._private_jobs") == []


async def test_a_job_that_is_to_fail_is_kept_with_the_reason(
    database: Database, lives: Lives, table: Table
) -> None:
    recorder = Recorder()
    await Client(database).add_raw_job("good")
    await run_once(database, lives.tasks, before(lambda _: Fail("closed on Sundays")), recorder)
    assert lives.ran == []
    assert recorder.names(JobEvent) == ["JobTaken", "JobFailed"]
    [row] = await table.jobs()
    assert (row["attempts"], row["last_error"], row["locked_by"]) == (1, "closed on Sundays", None)


def raises(error: Exception) -> Callable[[object], None]:
    def ask(_: object) -> None:
        raise error

    return ask


@pytest.mark.parametrize(
    ("answer", "event", "error"),
    [
        (lambda _: Fail("for good", permanent=True), JobFailedPermanently, "for good"),
        (lambda _: Fail(""), JobFailed, "an interceptor gave no reason"),
        (raises(LookupError("who")), JobFailed, "LookupError: who"),
        (raises(PermanentFailure("no")), JobFailedPermanently, "PermanentFailure: no"),
        (raises(RetryAfter(5)), JobFailed, "RetryAfter"),
        (lambda _: True, JobFailed, "TypeError: before_job_run of hooks"),
    ],
)
async def test_what_an_interceptor_raises_or_says_wrongly_fails_the_job(
    database: Database,
    lives: Lives,
    answer: Callable[[JobRun], Any],
    event: type[JobFailed | JobFailedPermanently],
    error: str,
) -> None:
    recorder = Recorder()
    await Client(database).add_raw_job("good")
    await run_once(database, lives.tasks, before(answer), recorder)
    assert lives.ran == []
    assert recorder.names(JobEvent) == ["JobTaken", event.__name__]
    assert recorder.of(event)[0].error.startswith(error)


async def test_an_interceptor_may_put_a_job_off(database: Database, lives: Lives, table: Table) -> None:
    """Rate limits are made of this: no attempt is used up."""
    await Client(database).add_raw_job("good")
    await run_once(database, lives.tasks, before(raises(Snooze(60))))
    [row] = await table.jobs()
    assert (row["attempts"], row["last_error"]) == (0, None)


async def test_they_are_asked_in_order_up_to_the_first_that_has_something_to_say(
    database: Database, lives: Lives
) -> None:
    asked: list[str] = []
    hooks = Hooks()

    @hooks.before_job_run
    async def first(run: JobRun) -> Continue:
        await trio.lowlevel.checkpoint()
        asked.append(f"first: {run.job.task_identifier}")
        return Continue()

    @hooks.before_job_run
    def second(run: JobRun) -> Skip | None:
        asked.append("second")
        return Skip() if run.job.task_identifier == "bad" else None

    @hooks.before_job_run
    def third(_: JobRun) -> None:
        asked.append("third")

    await Client(database).add_raw_jobs([("bad", None), ("good", None)])
    await run_once(database, lives.tasks, hooks)
    assert asked == ["first: bad", "second", "first: good", "second", "third"]
    assert lives.ran == ["good"]


async def test_a_hanging_interceptor_ends_with_the_timeout_of_the_task(
    database: Database, lives: Lives, table: Table
) -> None:
    async def hangs(_: JobRun) -> None:
        await trio.sleep_forever()

    await Client(database).add_raw_job("slow")
    recorder = Recorder()
    await run_once(database, lives.tasks, before(hangs), recorder)
    assert recorder.names(JobEvent) == ["JobTaken", "JobFailed"]
    assert recorder.of(JobFailed)[0].error.startswith("TimeoutError")


async def test_and_when_its_job_is_cancelled_on_request(
    database: Database, client: Client, lives: Lives
) -> None:
    asked, recorder = trio.Event(), Recorder()

    async def hangs(_: JobRun) -> None:
        asked.set()
        await trio.sleep_forever()

    async with running(Worker(database, lives.tasks, plugins=[before(hangs), recorder])):
        job = await client.add_raw_job("good")
        await asked.wait()
        await client.cancel_jobs([job.id], reason="not wanted")
        await recorder.wait_for(JobFailedPermanently)
    assert lives.ran == []


async def test_and_with_its_worker(database: Database, client: Client, lives: Lives, table: Table) -> None:
    asked, recorder = trio.Event(), Recorder()

    async def hangs(_: JobRun) -> None:
        asked.set()
        await trio.sleep_forever()

    async with running(Worker(database, lives.tasks, plugins=[before(hangs), recorder])) as run:
        await client.add_raw_job("good")
        await asked.wait()
        run.worker.cancel()
        report = await run.wait()
    assert report.returned == 1
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"]) == (0, None)
    assert recorder.names(JobEvent) == ["JobTaken", "JobInterrupted"]


@pytest.mark.parametrize("task", ["good", "threaded", "computing"])
async def test_every_lane_is_intercepted(database: Database, lives: Lives, task: str) -> None:
    if task == "computing":
        lives.tasks.include(PROCESS_TASKS)
    ends: list[str | None] = []
    hooks = before(lambda _: Continue())
    hooks.after_job_run(lambda end: ends.append(end.error))
    hooks.around_job_run(lambda _: nothing())
    recorder = Recorder()
    await Client(database).add_raw_job(task)
    await run_once(database, lives.tasks, hooks, recorder)
    assert recorder.names(JobEvent) == ["JobTaken", "JobStarted", "JobCompleted"]
    assert ends == [None]


@contextmanager
def nothing() -> Iterator[None]:
    yield


# --- after a run --------------------------------------------------------------------------------


def after(answer: Callable[[JobRunEnd], Any]) -> Hooks:
    hooks = Hooks()
    hooks.after_job_run(answer)
    return hooks


async def test_a_failed_run_that_is_skipped_counts_as_completed(
    database: Database, lives: Lives, table: Table
) -> None:
    recorder = Recorder()
    await Client(database).add_raw_job("bad")
    await run_once(database, lives.tasks, after(lambda _: Skip()), recorder)
    assert recorder.names(JobEvent) == ["JobTaken", "JobStarted", "JobCompleted"]
    assert await table.jobs() == []


async def test_a_completed_run_may_be_made_to_fail(database: Database, lives: Lives, table: Table) -> None:
    recorder = Recorder()
    await Client(database).add_raw_job("good", None, JobSpec(max_attempts=1))
    await run_once(database, lives.tasks, after(lambda _: Fail("no receipt")), recorder)
    assert recorder.names(JobEvent) == ["JobTaken", "JobStarted", "JobFailedPermanently"]
    [row] = await table.jobs()
    assert (row["attempts"], row["last_error"]) == (1, "no receipt")


async def test_it_is_told_how_the_run_ended(database: Database, lives: Lives) -> None:
    ends: list[JobRunEnd] = []
    await Client(database).add_raw_jobs(
        [
            ("good", None),
            ("bad", None),
            ("slow", None),
            ("batch", [1, 0]),
            ("sleepy", None),
            ("settling", None),
        ]
    )
    await run_once(database, lives.tasks, after(ends.append))
    told = {end.job.task_identifier: end.error for end in ends}
    assert list(told) == ["good", "bad", "slow", "batch"], "a snooze and a settled job are nobody's business"
    assert told["good"] is None
    assert (told["bad"] or "").startswith("ValueError: no such luck")
    assert (told["slow"] or "").startswith("TimeoutError")
    assert (told["batch"] or "").startswith("1 of 2 items failed")
    assert all(end.duration >= 0 for end in ends)


@pytest.mark.parametrize("task", ["good", "bad"])
async def test_what_it_raises_fails_the_job(
    database: Database, lives: Lives, table: Table, task: str
) -> None:
    await Client(database).add_raw_job(task)
    await run_once(database, lives.tasks, after(raises(LookupError("lost the receipt"))))
    [row] = await table.jobs()
    assert str(row["last_error"]).startswith("LookupError: lost the receipt")


REASONS: list[Any] = [None, LookupError("lost the receipt")]


@pytest.mark.parametrize("reason", REASONS)
async def test_a_reason_that_is_no_text_fails_the_job_and_not_the_worker(
    database: Database, lives: Lives, table: Table, reason: Any
) -> None:
    await Client(database).add_raw_job("good")
    await run_once(database, lives.tasks, after(lambda _: Fail(reason)))
    [row] = await table.jobs()
    assert str(row["last_error"]).startswith("OptionInvalid: reason: a str is needed, not ")


def test_a_failure_is_permanent_or_not() -> None:
    permanent: Any = "no"
    with pytest.raises(OptionInvalid, match=r"^permanent: a bool is needed, not a value of the type str$"):
        Fail("closed", permanent=permanent)


async def test_one_that_is_interrupted_leaves_what_the_handler_did(
    database: Database, client: Client, lives: Lives, table: Table
) -> None:
    """The job ran, and is not run again because somebody else was slow."""
    asked = trio.Event()

    async def hangs(_: JobRunEnd) -> None:
        asked.set()
        await trio.sleep_forever()

    options = WorkerOptions(shutdown=SOON)
    async with running(Worker(database, lives.tasks, options, plugins=[after(hangs)])) as run:
        await client.add_raw_job("good")
        await asked.wait()
        report = await run.stop()
    assert (report.completed, report.returned) == (1, 0)
    assert await table.jobs() == []


# --- around a run -------------------------------------------------------------------------------


async def test_what_is_around_a_run_sees_how_it_ended(
    database: Database, client: Client, lives: Lives, handlers: Handlers
) -> None:
    seen: list[str] = []
    hooks = Hooks()

    @hooks.around_job_run
    @contextmanager
    def watch(run: JobRun) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(f"{run.job.task_identifier}: {type(error).__name__}")
            raise
        seen.append(run.job.task_identifier)

    await client.add_raw_jobs([(name, None) for name in ("good", "bad", "slow", "sleepy")])
    await client.add_raw_job("batch", [0])
    await run_once(database, lives.tasks, hooks)
    assert seen == [
        "good",
        "bad: ValueError",
        "slow: HandlerInterrupted",
        "sleepy: Snooze",
        "batch: HandlerFailed",
    ]

    options = WorkerOptions(shutdown=SOON)
    async with running(Worker(database, handlers.tasks, options, plugins=[hooks])):
        await client.add_raw_job("held")
        await handlers.wait_started(1)
    assert seen[-1] == "held: Cancelled"


async def test_they_nest_in_the_order_of_their_registration_and_cannot_swallow(
    database: Database, lives: Lives, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def around(name: str, *, fails: bool = False) -> Callable[[JobRun], Any]:
        @contextmanager
        def manager(_: JobRun) -> Iterator[None]:
            seen.append(f"{name} in")
            with suppress(ValueError):
                yield
            seen.append(f"{name} out")
            if fails:
                raise LookupError(name)

        return manager

    hooks = Hooks()
    hooks.around_job_run(around("a"))
    hooks.around_job_run(around("b", fails=True))
    await Client(database).add_raw_job("bad")
    with caplog.at_level(logging.ERROR, "trio_graphile.hooks"):
        await run_once(database, lives.tasks, hooks)
    assert seen == ["a in", "b in", "b out", "a out"]
    [row] = await table.jobs()
    assert str(row["last_error"]).startswith("ValueError: no such luck")
    assert "around_job_run of hooks" in caplog.text
