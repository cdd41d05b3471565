"""`cancel_jobs`: jobs are cancelled from outside, wherever they run or wait."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.waiting import wait_until
from tests.support.workers import heard, make_worker, running
from tests.worker import process_tasks
from tests.worker.telephone import open_telephone
from trio_graphile import (
    CancelledJobs,
    Client,
    Database,
    Job,
    JobContext,
    JobSpec,
    LocalQueueOptions,
    OptionInvalid,
    ShutdownOptions,
    ShutdownReport,
    WorkerPhase,
    open_database,
)

WAITING = {"attempts": 0, "locked_by": None, "last_error": None}


def fate(job: dict[str, object]) -> dict[str, object]:
    return {name: job[name] for name in WAITING}


def failed(reason: str = "Cancelled on request", attempts: int = 25) -> dict[str, object]:
    return {"attempts": attempts, "locked_by": None, "last_error": reason}


async def wait_unlocked(table: Table, job: Job) -> dict[str, object]:
    """Wait until nobody has locked a job; return its row."""
    await table.wait_until(
        "select locked_by is null from graphile_worker._private_jobs where id = $1::bigint", job.id
    )
    [row] = [row for row in await table.jobs() if row["id"] == job.id]
    return row


async def requests(database: Database) -> list[int]:
    rows = await database.fetch("""
        select job_id
        from graphile_worker.trio_graphile_cancellations
        order by job_id
    """)
    return [row["job_id"] for row in rows]


async def wait_no_requests(table: Table) -> None:
    await table.wait_until("select count(*) = 0 from graphile_worker.trio_graphile_cancellations")


async def lock_as(database: Database, worker_id: str, job: Job) -> None:
    await database.execute(
        """
        update graphile_worker._private_jobs
        set locked_by = $1::text, locked_at = now(), attempts = 1
        where id = $2::bigint
        """,
        worker_id,
        job.id,
    )


# --- jobs that run ------------------------------------------------------------------------------


async def test_a_running_job_is_cancelled_and_has_failed_for_good_with_the_reason(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    spec = JobSpec(queue_name="q", max_attempts=3)
    job, other = [await client.add_raw_job("held", None, s) for s in (spec, None)]
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(2)
        answer = await client.cancel_jobs([job.id], reason="the customer left")
        assert answer == CancelledJobs(requested_ids=(job.id,))
        await handlers.wait_cancelled(1)
        assert fate(await wait_unlocked(table, job)) == failed("the customer left", 3)
        assert await table.locked_queues() == {}
        handlers.release.set()
        await handlers.wait_ended(1)
        report = await run.stop()
    assert [cancelled.id for cancelled in handlers.cancelled] == [job.id]
    assert [ended.id for ended in handlers.ended] == [other.id]
    assert (report.failed, report.completed) == (1, 1)
    assert await requests(database) == []


async def test_a_job_that_still_runs_after_a_stop_has_begun_is_cancelled_at_once(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    """Not only when the worker would look without being told, which is as seldom as it renews its lease."""
    job = await client.add_raw_job("held")
    worker = make_worker(database, handlers.tasks, shutdown=ShutdownOptions(grace_period=3600))
    async with running(worker) as run:
        await handlers.wait_started(1)
        worker.stop()
        await wait_until(lambda: worker.statistics().phase is WorkerPhase.STOPPING)
        await client.cancel_jobs([job.id])
        await handlers.wait_cancelled(1)
        assert (await run.wait()).failed == 1
    assert fate(await wait_unlocked(table, job)) == failed()


async def test_a_running_job_can_be_given_back_with_its_attempt_and_runs_again_uncancelled(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    job = await client.add_raw_job("held")
    other = await client.add_raw_job("held")
    async with running(make_worker(database, handlers.tasks, poll_interval=0.05)) as run:
        await handlers.wait_started(2)
        answer = await client.cancel_jobs([job.id], outcome="return")
        assert answer == CancelledJobs(requested_ids=(job.id,))
        await handlers.wait_started(3)
        await wait_no_requests(table)
        await client.cancel_jobs([other.id])  # the worker looks once more
        assert fate(await wait_unlocked(table, other)) == failed()
        handlers.release.set()
        await handlers.wait_ended(1)
        report = await run.stop()
    assert [(again.id, again.attempts) for again in handlers.ended] == [(job.id, 1)]
    assert [cancelled.id for cancelled in handlers.cancelled] == [job.id, other.id]
    assert (report.returned, report.failed, report.completed) == (1, 1, 1)


async def test_another_program_can_cancel_and_nobody_needs_to_listen(
    database: Database, database_url: str, client: Client, handlers: Handlers, table: Table
) -> None:
    job = await client.add_raw_job("held")
    worker = make_worker(database, handlers.tasks, notifications=False, poll_interval=0.05)
    async with running(worker), open_database(database_url) as other_database:
        await handlers.wait_started(1)
        await Client(other_database).cancel_jobs([job.id])
        assert fate(await wait_unlocked(table, job)) == failed()


async def test_a_job_of_a_drain_can_be_cancelled(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    job = await client.add_raw_job("held")
    reports: list[ShutdownReport] = []

    async def drain() -> None:
        reports.append(await make_worker(database, handlers.tasks, poll_interval=0.05).run_once())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        await handlers.wait_started(1)
        await client.cancel_jobs([job.id])
    assert reports[0].failed == 1
    assert [fate(row) for row in await table.jobs()] == [failed()]


async def test_a_job_whose_key_was_given_to_another_can_be_cancelled(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    spec = JobSpec(job_key="k")
    job = await client.add_raw_job("held", 1, spec)
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        await client.add_raw_job("held", 2, spec)
        await handlers.wait_started(2)
        await client.cancel_jobs([job.id])
        assert fate(await wait_unlocked(table, job)) == failed()
        handlers.release.set()
        await handlers.wait_ended(1)
        assert (await run.stop()).completed == 1
    assert [ended.payload for ended in handlers.ended] == [2]


# --- what handlers do about it ------------------------------------------------------------------


async def test_a_handler_that_ends_well_although_cancelled_has_completed_its_job(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("stubborn")
    async def stubborn(context: JobContext) -> None:
        handlers.start(context)
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep_forever()
        handlers.end(context)

    job = await client.add_raw_job("stubborn")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        await client.cancel_jobs([job.id])
        await handlers.wait_ended(1)
        report = await run.stop()
    assert (report.completed, report.failed) == (1, 0)
    assert await table.jobs() == []


@pytest.mark.parametrize(
    ("outcome", "expected"), [("fail", failed("the customer left")), ("return", WAITING)]
)
async def test_what_a_handler_raises_when_it_cleans_up_does_not_change_what_was_asked_for(
    client: Client, handlers: Handlers, table: Table, outcome: Any, expected: dict[str, object]
) -> None:
    forbidden: list[str] = []

    @handlers.tasks.task("clumsy")
    async def clumsy(context: JobContext) -> None:
        forbidden.append("once")  # not a second time
        handlers.start(context)
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("no such luck")

    job = await client.add_raw_job("clumsy", None, JobSpec(flags=("once",)))
    async with running(make_worker(client.database, handlers.tasks, forbidden_flags=lambda: forbidden)):
        await handlers.wait_started(1)
        await client.cancel_jobs([job.id], outcome=outcome, reason="the customer left")
        assert fate(await wait_unlocked(table, job)) == expected


async def test_a_thread_is_told_that_its_job_is_cancelled(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    told = threading.Event()

    @handlers.tasks.task("thread")
    def thread(context: JobContext) -> None:
        trio.from_thread.run_sync(handlers.start, context)
        try:
            context.run(trio.sleep_forever)
        except trio.Cancelled:
            told.set()
            raise

    job = await client.add_raw_job("thread")
    async with running(make_worker(database, handlers.tasks)):
        await handlers.wait_started(1)
        await client.cancel_jobs([job.id])
        await heard(told)
        assert fate(await wait_unlocked(table, job)) == failed()


async def test_a_process_is_killed_when_its_job_is_cancelled(
    database: Database, client: Client, table: Table, nursery: trio.Nursery
) -> None:
    telephone = await open_telephone(nursery)
    job = await client.add_raw_job("busy", telephone.port)
    async with running(make_worker(database, process_tasks.tasks)):
        caller = await telephone.next_call()
        await client.cancel_jobs([job.id])
        await caller.wait_gone()
        assert fate(await wait_unlocked(table, job)) == failed()


# --- jobs that do not run -----------------------------------------------------------------------


async def test_a_job_that_waits_fails_at_once_and_is_returned(
    client: Client, handlers: Handlers, table: Table
) -> None:
    waiting, other = await client.add_raw_jobs([("held", None)] * 2)
    answer = await client.cancel_jobs([waiting.id], reason="the customer left")
    assert (answer.requested_ids, answer.skipped_ids) == ((), ())
    [changed] = answer.jobs
    assert (changed.id, changed.attempts, changed.last_error) == (waiting.id, 25, "the customer left")
    assert [fate(row) for row in await table.jobs()] == [failed("the customer left"), WAITING]
    assert (await client.cancel_jobs([other.id], outcome="return")) == CancelledJobs(skipped_ids=(other.id,))
    assert [fate(row) for row in await table.jobs()][1] == WAITING


@pytest.mark.parametrize("outcome", ["fail", "return"])
async def test_a_job_that_is_held_for_a_slot_is_withdrawn(
    client: Client, handlers: Handlers, table: Table, outcome: Any
) -> None:
    forbidden: list[str] = []
    flagged = JobSpec(flags=("once",))
    jobs = await client.add_raw_jobs([("held", None), ("held", None, flagged), ("held", None)])
    worker = make_worker(
        client.database,
        handlers.tasks,
        concurrency=1,
        local_queue=LocalQueueOptions(size=5),
        forbidden_flags=lambda: forbidden,
    )
    async with running(worker) as run:
        await handlers.wait_started(1)
        await table.wait_until("select count(locked_by) = 3 from graphile_worker._private_jobs")
        forbidden.append("once")  # not to be claimed again
        answer = await client.cancel_jobs([jobs[1].id], outcome=outcome)
        assert answer == CancelledJobs(requested_ids=(jobs[1].id,))
        assert fate(await wait_unlocked(table, jobs[1])) == (failed() if outcome == "fail" else WAITING)
        handlers.release.set()
        await handlers.wait_ended(2)
        report = await run.stop()
    assert [started.id for started in handlers.started] == [jobs[0].id, jobs[2].id]
    assert (report.completed, report.failed, report.returned) == (2, outcome == "fail", outcome == "return")


@pytest.mark.parametrize("outcome", ["fail", "return"])
async def test_what_a_worker_of_another_kind_runs_and_what_is_not_there_is_skipped(
    client: Client, table: Table, outcome: Any
) -> None:
    job = await client.add_raw_job("held")
    await lock_as(client.database, "worker-0123456789abcdef", job)
    answer = await client.cancel_jobs([job.id, 4711, 4711], outcome=outcome)
    assert (answer.requested_ids, answer.jobs) == ((), ())
    assert sorted(answer.skipped_ids) == [job.id, 4711]
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"], row["last_error"]) == (1, "worker-0123456789abcdef", None)
    assert await requests(client.database) == []


async def test_a_request_to_a_worker_that_is_gone_is_forgotten_with_the_next(
    database: Database, client: Client, handlers: Handlers
) -> None:
    job, other = await client.add_raw_jobs([("held", None)] * 2)
    await lock_as(database, "trio_graphile_gone", job)
    await lock_as(database, "trio_graphile_deaf", other)
    assert (await client.cancel_jobs([job.id])).requested_ids == (job.id,)
    assert await requests(database) == [job.id]
    await client.force_unlock_workers(["trio_graphile_gone"])
    await client.cancel_jobs([other.id])
    assert await requests(database) == [other.id]


# --- transactions and mistakes ------------------------------------------------------------------


async def test_what_is_asked_for_in_a_transaction_that_is_rolled_back_does_not_happen(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    job, other = await client.add_raw_jobs([("held", None)] * 2)
    waiting = await client.add_raw_job("not of this worker")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(2)
        answers: list[CancelledJobs] = []
        with contextlib.suppress(LookupError):
            async with database.transaction() as connection:
                answers.append(await client.using(connection).cancel_jobs([job.id, waiting.id]))
                raise LookupError
        assert answers[0].requested_ids == (job.id,)
        assert [changed.id for changed in answers[0].jobs] == [waiting.id]
        await client.cancel_jobs([other.id])  # this one happens, and the worker looks
        assert fate(await wait_unlocked(table, other)) == failed()
        handlers.release.set()
        await handlers.wait_ended(1)
        report = await run.stop()
    assert [ended.id for ended in handlers.ended] == [job.id]
    assert (report.completed, report.failed) == (1, 1)
    assert [fate(row) for row in await table.jobs()] == [failed(), WAITING]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"outcome": "vanish"}, "outcome: 'vanish' is neither 'fail' nor 'return'"),
        ({"outcome": None}, "outcome: None is neither"),
        ({"reason": ""}, "reason: a text is needed"),
        ({"reason": "nul \0"}, "reason: PostgreSQL cannot hold a NUL character"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    client: Client, table: Table, mistake: dict[str, Any], message: str
) -> None:
    job = await client.add_raw_job("held")
    with pytest.raises(OptionInvalid, match=message):
        await client.cancel_jobs([job.id], **mistake)
    assert [fate(row) for row in await table.jobs()] == [WAITING]


async def test_to_cancel_nothing_is_nothing_to_do(client: Client) -> None:
    assert await client.cancel_jobs([]) == CancelledJobs()
