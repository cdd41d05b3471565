"""What is told of a job's run, and what interceptors make of it; in order, and in every lane."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import pytest
import trio

from tests.hooks.recorder import Counting, Recorder
from tests.scenarios.tempers import PROCESS_TASKS
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.tempers import add_endings
from tests.support.waiting import wait_until
from tests.support.workers import NEVER, SOON, running
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    PermanentFailure,
    RecoveryOptions,
    RetryAfter,
    Snooze,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile.hooks import (
    Continue,
    Fail,
    Hooks,
    InterruptReason,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobRun,
    JobRunEnd,
    JobSnoozed,
    JobsReturned,
    JobTakenAway,
    Plugin,
    Skip,
)


@attrs.define(eq=False)
class Lives:
    """Tasks that end in every way, and what their handlers saw."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    ran: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        add_endings(self.tasks)

        @self.tasks.task("good")
        async def good() -> None:
            self.ran.append("good")

        @self.tasks.task("bad")
        async def bad() -> None:
            self.ran.append("bad")
            raise ValueError("no such luck")

        @self.tasks.task("hopeless")
        async def hopeless() -> None:
            raise PermanentFailure("never")

        @self.tasks.task("threaded")
        def threaded() -> None:
            self.ran.append("threaded")

        @self.tasks.task("settling")
        async def settling(context: JobContext) -> None:
            async with context.complete_in_transaction():
                pass

        @self.tasks.batch_task("batch")
        async def batch(items: list[int]) -> list[BaseException | None]:
            return [None if item else ValueError("zero") for item in items]


@pytest.fixture
def lives() -> Lives:
    return Lives()


async def run_once(database: Database, tasks: TaskRegistry, *plugins: Plugin, **options: Any) -> Worker:
    worker = Worker(database, tasks, WorkerOptions(concurrency=1, **options), plugins=plugins)
    await worker.run_once()
    return worker


# --- what is told -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "last"),
    [
        ("good", JobCompleted),
        ("bad", JobFailed),
        ("hopeless", JobFailedPermanently),
        ("sleepy", JobSnoozed),
        ("slow", JobFailed),
        ("threaded", JobCompleted),
        ("settling", JobCompleted),
    ],
)
async def test_each_event_of_a_run_comes_once_and_in_order(
    database: Database, lives: Lives, task: str, last: type[JobEvent]
) -> None:
    recorder = Recorder()
    job = await Client(database).add_raw_job(task)
    worker = await run_once(database, lives.tasks, recorder)
    assert recorder.names(JobEvent) == ["JobTaken", "JobStarted", last.__name__]
    assert {event.job.id for event in recorder.of(JobEvent)} == {job.id}
    assert {event.worker_id for event in recorder.events} == {worker.worker_id}


async def test_what_is_told_of_a_failure(database: Database, lives: Lives) -> None:
    recorder = Recorder()
    await Client(database).add_raw_jobs([("bad", None), ("bad", None, JobSpec(max_attempts=1))])
    await run_once(database, lives.tasks, recorder)
    [failed], [last] = recorder.of(JobFailed), recorder.of(JobFailedPermanently)
    assert failed.error.startswith("ValueError: no such luck (")
    assert failed.retry_in is None
    assert failed.duration > 0
    assert failed.job.last_error is None, "the job is as it was claimed"
    assert last.error == failed.error


async def test_a_task_that_nobody_knows_has_no_run(database: Database, lives: Lives) -> None:
    """Another version of the program may have registered its identifier with us."""
    recorder = Recorder()
    await Client(database).add_raw_job("good")

    class Forgetful(TaskRegistry):
        @property
        def identifiers(self) -> tuple[str, ...]:
            return ("good",)

    await run_once(database, Forgetful(), recorder)
    assert recorder.names(JobEvent) == ["JobTaken", "JobFailed"]
    assert recorder.of(JobFailed)[0].duration == 0


async def test_an_event_is_told_when_its_fact_is_in_the_database(database: Database, lives: Lives) -> None:
    seen: list[object] = []
    hooks = Hooks()

    @hooks.on(JobCompleted)
    async def look(event: JobCompleted) -> None:
        seen.append(
            await database.fetch_value(
                "select count(*) from graphile_worker._private_jobs where id = $1::bigint", event.job.id
            )
        )

    await Client(database).add_raw_jobs([("good", None), ("settling", None)])
    await run_once(database, lives.tasks, hooks)
    assert seen == [0, 0]


async def test_a_retry_that_was_asked_for_is_told(database: Database) -> None:
    tasks, recorder = TaskRegistry(), Recorder()

    @tasks.task("later")
    async def later() -> None:
        raise RetryAfter(90)

    @tasks.task("nap")
    async def nap() -> None:
        raise Snooze(30)

    await Client(database).add_raw_jobs([("later", None), ("nap", None)])
    await run_once(database, tasks, recorder)
    assert [event.retry_in for event in recorder.of(JobFailed)] == [90]
    assert [event.delay for event in recorder.of(JobSnoozed)] == [30]


async def test_two_plugins_are_both_told_and_may_hold_a_state(database: Database, lives: Lives) -> None:
    one = Counting(name="one", kinds=(JobCompleted,))
    two = Counting(name="two", kinds=(JobCompleted,), seen=one.seen)
    await Client(database).add_raw_jobs([("good", None)] * 2)
    await run_once(database, lives.tasks, one, two)
    assert one.seen == ["one: JobCompleted", "two: JobCompleted"] * 2


async def test_an_interrupted_job_is_told_once_and_not_as_a_failure(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    options = WorkerOptions(concurrency=1, poll_interval=NEVER, shutdown=SOON)
    worker = Worker(database, handlers.tasks, options, plugins=[recorder])
    async with running(worker) as run:
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        await run.stop()
    assert recorder.names(JobEvent) == ["JobTaken", "JobStarted", "JobInterrupted"]
    [interrupted] = recorder.of(JobInterrupted)
    assert interrupted.reason is InterruptReason.SHUTDOWN
    assert interrupted.duration > 0


async def test_what_was_cancelled_on_request_says_so(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    async with running(Worker(database, handlers.tasks, plugins=[recorder])):
        jobs = await client.add_raw_jobs([("held", None)] * 2)
        await handlers.wait_started(2)
        await client.cancel_jobs([jobs[0].id], reason="not wanted")
        await recorder.wait_for(JobFailedPermanently)
        await client.cancel_jobs([jobs[1].id], outcome="return")
        await recorder.wait_for(JobInterrupted)
        handlers.release.set()
    assert recorder.of(JobFailedPermanently)[0].error == "not wanted"
    assert recorder.of(JobInterrupted)[0].reason is InterruptReason.REQUESTED


async def test_a_job_that_is_taken_away_is_told_of(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    async with running(Worker(database, handlers.tasks, plugins=[recorder])):
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        await database.execute("update graphile_worker._private_jobs set locked_by = 'thief'")
        handlers.release.set()
        await recorder.wait_for(JobTakenAway)
    assert recorder.of(JobCompleted) == []


async def test_a_job_that_is_replaced_while_it_runs_is_told_of(database: Database, client: Client) -> None:
    tasks, recorder, started = TaskRegistry(), Recorder(), trio.Event()

    @tasks.task("replaced", on_replaced="cancel")
    async def replaced() -> None:
        started.set()
        await trio.sleep_forever()

    options = WorkerOptions(
        lease=LeaseOptions(length=60, renew_interval=0.05), recovery=RecoveryOptions(sweep_threshold=60)
    )
    async with running(Worker(database, tasks, options, plugins=[recorder])):
        await client.add_raw_job("replaced", None, JobSpec(job_key="k"))
        await started.wait()
        await client.remove_job("k")
        await recorder.wait_for(JobRemoved)


async def test_jobs_that_no_slot_took_are_told_by_number(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    options = WorkerOptions(
        concurrency=1, poll_interval=NEVER, shutdown=SOON, local_queue=LocalQueueOptions(size=10)
    )
    await client.add_raw_jobs([("held", None)] * 4)
    worker = Worker(database, handlers.tasks, options, plugins=[recorder])
    async with running(worker) as run:
        await handlers.wait_started(1)
        await wait_until(lambda: worker.statistics().held == 3)
        await run.stop()
    assert sum(event.count for event in recorder.of(JobsReturned)) == 3
    assert len(recorder.of(JobInterrupted)) == 1


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
