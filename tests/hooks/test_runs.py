"""The events of a run: which are emitted, in which order, and when."""

from __future__ import annotations

import pytest
import trio

from tests.hooks.recorder import Counting, Recorder
from tests.support.handlers import Handlers
from tests.support.lives import Lives, run_once
from tests.support.waiting import wait_until
from tests.support.workers import NEVER, SOON, running
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    RetryAfter,
    Snooze,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile.hooks import (
    Hooks,
    InterruptReason,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobSnoozed,
    JobsReturned,
    JobTakenAway,
)


@pytest.fixture
def lives() -> Lives:
    return Lives()


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
