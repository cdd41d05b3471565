"""`complete_in_transaction`: what a handler writes and the end of its job happen together, or not at all."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.database.sessions import set_default_isolation, wait_until_somebody_waits
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.waiting import PATIENCE
from tests.support.workers import SOON, make_worker, running
from trio_graphile import (
    Client,
    Connection,
    ConnectionLost,
    Database,
    Job,
    JobContext,
    JobLost,
    JobSpec,
    LeaseOptions,
    PermanentFailure,
    Snooze,
    open_database,
)

RETURNED = {"attempts": 0, "locked_by": None, "last_error": None}


def fate(job: dict[str, object]) -> dict[str, object]:
    return {name: job[name] for name in RETURNED}


@pytest.fixture
async def database(database: Database) -> Database:
    """Lend a database in which a handler can write that it has paid."""
    await database.execute("create table payments (job_id bigint)")
    return database


async def pay(connection: Connection, job: Job) -> None:
    await connection.execute("insert into payments (job_id) values ($1::bigint)", job.id)


async def paid(database: Database) -> list[int]:
    return [row["job_id"] for row in await database.fetch("select job_id from payments order by job_id")]


# --- together -----------------------------------------------------------------------------------


async def test_what_is_written_and_the_end_of_the_job_happen_together(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
            handlers.start(context)
            await handlers.release.wait()
        handlers.end(context)
        await trio.sleep_forever()

    job = await client.add_raw_job("paying", None, JobSpec(queue_name="q"))
    async with running(make_worker(database, handlers.tasks, shutdown=SOON)) as run:
        await handlers.wait_started(1)
        assert await paid(database) == []
        assert len(await table.jobs()) == 1
        handlers.release.set()
        await handlers.wait_ended(1)
        assert await paid(database) == [job.id]
        assert await table.jobs() == []
        assert await table.locked_queues() == {}
        report = await run.stop()  # interrupts what the handler does afterwards
    assert (report.completed, report.returned, report.lost) == (1, 0, 0)


async def test_a_job_that_is_added_in_the_transaction_comes_with_it(
    database: Database, client: Client, handlers: Handlers
) -> None:
    waiting: list[int] = []

    @handlers.tasks.task("parent")
    async def parent(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await context.client.using(connection).add_raw_job("quick")
            waiting.append(await database.fetch_value("select count(*) from graphile_worker._private_jobs"))

    await client.add_raw_job("parent")
    assert (await make_worker(database, handlers.tasks).run_once()).completed == 2
    assert waiting == [1]  # the parent itself
    assert len(handlers.ended) == 1


async def test_a_thread_completes_its_job_through_an_async_function(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("paying")
    def paying(context: JobContext) -> None:
        async def complete() -> None:
            async with context.complete_in_transaction("serializable") as connection:
                await pay(connection, context.job)

        context.run(complete)

    job = await client.add_raw_job("paying")
    report = await make_worker(database, handlers.tasks).run_once()
    assert (report.completed, report.lost) == (1, 0)
    assert await paid(database) == [job.id]
    assert await table.jobs() == []


async def test_a_job_whose_key_was_given_to_another_is_completed_all_the_same(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        handlers.start(context)
        await handlers.release.wait()
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
        handlers.end(context)

    spec = JobSpec(job_key="k")
    jobs = [await client.add_raw_job("paying", None, spec)]
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        jobs.append(await client.add_raw_job("paying", None, spec))
        handlers.release.set()
        await handlers.wait_ended(2)
        report = await run.stop()
    assert (report.completed, report.lost) == (2, 0)
    assert await paid(database) == [job.id for job in jobs]
    assert await table.jobs() == []


# --- or not at all ------------------------------------------------------------------------------


async def test_a_body_that_raises_writes_nothing_and_the_job_has_failed(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
            raise ValueError("no such luck")

    await client.add_raw_job("paying", None, JobSpec(queue_name="q"))
    report = await make_worker(database, handlers.tasks).run_once()
    assert (report.completed, report.failed) == (0, 1)
    assert await paid(database) == []
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"]) == (1, None)
    assert str(job["last_error"]).startswith("ValueError: no such luck")
    assert await table.locked_queues() == {}


UNLOCK = """
    update graphile_worker._private_jobs
    set locked_by = null, locked_at = null, run_at = now() + interval '1 hour'
"""
CLAIM_AGAIN = "update graphile_worker._private_jobs set attempts = attempts + 1"
CLAIM_AS_ANOTHER = "update graphile_worker._private_jobs set locked_by = 'another'"


@pytest.mark.parametrize(
    "how", [UNLOCK, CLAIM_AGAIN, CLAIM_AS_ANOTHER], ids=["unlocked", "claimed again", "claimed by another"]
)
async def test_a_job_that_was_taken_away_meanwhile_is_lost_and_what_was_written_is_rolled_back(
    client: Client, handlers: Handlers, table: Table, how: str
) -> None:
    raised: list[JobLost] = []

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        try:
            async with context.complete_in_transaction() as connection:
                await pay(connection, context.job)
                await client.database.execute(how)
        except JobLost as error:
            raised.append(error)
            raise

    job = await client.add_raw_job("paying")
    report = await make_worker(client.database, handlers.tasks).run_once()
    assert (report.lost, report.completed, report.failed) == (1, 0, 0)
    assert [error.job_id for error in raised] == [job.id]
    assert "it was taken from this worker" in str(raised[0])
    assert await paid(client.database) == []
    [row] = await table.jobs()
    assert (row["id"], row["last_error"]) == (job.id, None)


DAWDLE = """
    create function dawdle()
    returns trigger
    language plpgsql
    as $$
    begin
      perform pg_advisory_xact_lock(1);
      return null;
    exception
      when query_canceled then return null;
    end
    $$
"""  # it waits for a lock, and goes on when it is cancelled
DAWDLE_AFTER_DELETION = """
    create trigger dawdles after delete on graphile_worker._private_jobs
    for each row execute function dawdle()
"""
DAWDLE_AT_COMMIT = """
    create constraint trigger dawdles after insert on payments deferrable initially deferred
    for each row execute function dawdle()
"""
TERMINATE_WHO_WAITS = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where cardinality(pg_blocking_pids(pid)) > 0
"""


async def test_a_job_that_is_taken_although_its_completion_was_answered_before_the_commit_is_lost(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    """The worker is cancelled, the deletion succeeds all the same, and there is no commit."""

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        try:
            async with context.complete_in_transaction() as connection:
                await pay(connection, context.job)
        except trio.Cancelled:
            with trio.move_on_after(PATIENCE, shield=True):
                await client.database.execute(CLAIM_AS_ANOTHER)
            raise

    await client.add_raw_job("paying")
    await database.execute(DAWDLE)
    await database.execute(DAWDLE_AFTER_DELETION)
    async with database.transaction() as connection:
        await connection.execute("select pg_advisory_xact_lock(1)")
        async with running(make_worker(database, handlers.tasks)) as run:
            await wait_until_somebody_waits(database)
            run.worker.cancel()
            report = await run.wait()
    assert (report.completed, report.returned, report.lost) == (0, 0, 1)
    assert await paid(database) == []
    [row] = await table.jobs()
    assert row["locked_by"] == "another"


@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_commit_whose_answer_is_lost_did_not_happen_if_the_job_is_there(
    database: Database, client: Client, handlers: Handlers, table: Table, *, is_taken: bool
) -> None:
    await database.execute(DAWDLE)
    await database.execute(DAWDLE_AT_COMMIT)

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        try:
            async with context.complete_in_transaction() as connection:
                await pay(connection, context.job)
        except ConnectionLost:
            if is_taken:
                await client.database.execute(CLAIM_AS_ANOTHER)
            raise

    await client.add_raw_job("paying")
    async with database.transaction() as connection:
        await connection.execute("select pg_advisory_xact_lock(1)")
        async with running(make_worker(database, handlers.tasks)) as run:
            await wait_until_somebody_waits(database)
            await database.execute(TERMINATE_WHO_WAITS)
            report = await run.stop()
    assert (report.completed, report.failed, report.lost) == ((0, 0, 1) if is_taken else (0, 1, 0))
    assert await paid(database) == []
    [row] = await table.jobs()
    assert row["locked_by"] == ("another" if is_taken else None)


async def test_a_commit_that_is_refused_is_a_failure_and_the_job_is_tried_again(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await database.execute("""
        alter table payments
        add constraint once unique (job_id) deferrable initially deferred
    """)

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            for _ in range(3 - context.attempt):
                await pay(connection, context.job)

    job = await client.add_raw_job("paying")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"]) == (1, None)
    assert str(row["last_error"]).startswith("StatementFailed: ")
    assert await paid(database) == []

    await table.make_due()
    assert (await make_worker(database, handlers.tasks).run_once()).completed == 1
    assert await paid(database) == [job.id]


async def test_a_handler_that_is_interrupted_inside_has_written_nothing_and_its_job_is_given_back(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
            handlers.start(context)
            await handlers.release.wait()

    await client.add_raw_job("paying")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        run.worker.cancel()
        report = await run.wait()
    assert (report.completed, report.returned, report.lost) == (0, 1, 0)
    assert await paid(database) == []
    assert [fate(row) for row in await table.jobs()] == [RETURNED]


# --- once, and afterwards -----------------------------------------------------------------------


async def test_a_job_is_completed_once_and_stays_so(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    raised: list[JobLost] = []

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
        try:
            async with context.complete_in_transaction() as connection:
                await pay(connection, context.job)
        except JobLost as error:
            raised.append(error)
            raise

    job = await client.add_raw_job("paying")
    report = await make_worker(database, handlers.tasks).run_once()
    assert (report.completed, report.failed, report.lost) == (1, 0, 0)
    assert [error.job_id for error in raised] == [job.id]
    assert "it has completed the job already" in str(raised[0])
    assert await paid(database) == [job.id]
    assert await table.jobs() == []


@pytest.mark.parametrize("error", [ValueError("no such luck"), Snooze(10), PermanentFailure("never")])
async def test_what_a_handler_raises_afterwards_leaves_its_job_completed(
    client: Client, handlers: Handlers, table: Table, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
        raise error

    job = await client.add_raw_job("paying", None, JobSpec(queue_name="q"))
    report = await make_worker(client.database, handlers.tasks).run_once()
    assert (report.completed, report.failed, report.snoozed) == (1, 0, 0)
    assert f"job {job.id} (paying)" in caplog.text
    assert await paid(client.database) == [job.id]
    assert await table.jobs() == []
    assert await table.locked_queues() == {}


async def test_a_renewal_of_the_lease_leaves_a_handler_alone_that_has_completed_its_job(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
        handlers.start(context)
        await handlers.release.wait()
        handlers.end(context)

    await client.add_raw_jobs([("paying", None), ("held", None)])
    lease = LeaseOptions(length=300, renew_interval=0.05)
    async with running(make_worker(database, handlers.tasks, lease=lease)) as run:
        await handlers.wait_started(2)
        for _ in range(2):  # the worker hears of one before the next begins
            await wait_renewed(table)
        handlers.release.set()
        await handlers.wait_ended(2)
        report = await run.stop()
    assert handlers.cancelled == []
    assert (report.completed, report.lost) == (2, 0)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_a_renewal_of_the_lease_is_no_conflict_whatever_level_is_the_default(
    database_url: str, client: Client, handlers: Handlers, table: Table, level: str
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            assert await connection.fetch_value("select current_setting('transaction_isolation')") == level
            await wait_renewed(table)
            await pay(connection, context.job)

    await set_default_isolation(client.database, level)
    [job, _] = await client.add_raw_jobs([("paying", None), ("held", None)])
    lease = LeaseOptions(length=300, renew_interval=0.05)
    async with (
        open_database(database_url) as other,
        running(make_worker(other, handlers.tasks, lease=lease)) as run,
    ):
        await table.wait_until("select count(locked_by) = 1 from graphile_worker._private_jobs")
        handlers.release.set()
        report = await run.stop()
    assert (report.completed, report.failed) == (2, 0)
    assert await paid(client.database) == [job.id]


async def test_a_renewal_just_before_the_lock_makes_the_transaction_begin_anew(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """The snapshot is taken, the lock is waited for, and then the row is another than in the snapshot."""

    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        handlers.start(context)
        await handlers.release.wait()
        async with context.complete_in_transaction("repeatable_read") as connection:
            await pay(connection, context.job)

    job = await client.add_raw_job("paying")
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        async with database.transaction() as connection:
            await connection.execute("update graphile_worker._private_jobs set locked_at = now()")
            handlers.release.set()
            await wait_until_somebody_waits(database)
        report = await run.stop()
    assert (report.completed, report.failed) == (1, 0)
    assert await paid(database) == [job.id]


async def wait_renewed(table: Table) -> None:
    """Wait until a job has been renewed."""
    now = await table.database.fetch_value("select clock_timestamp()")
    await table.wait_until("select max(locked_at) > $1::timestamptz from graphile_worker._private_jobs", now)


async def test_the_next_job_of_a_queue_starts_although_the_handler_of_the_completed_one_goes_on(
    database: Database, client: Client, handlers: Handlers
) -> None:
    @handlers.tasks.task("paying")
    async def paying(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await pay(connection, context.job)
        await handlers.release.wait()
        handlers.end(context)

    spec = JobSpec(queue_name="q")
    first, second = await client.add_raw_jobs([("paying", None, spec), ("quick", None, spec)])
    async with running(make_worker(database, handlers.tasks, poll_interval=0.05)) as run:
        await handlers.wait_ended(1)
        assert [job.id for job in handlers.ended] == [second.id]
        handlers.release.set()
        await handlers.wait_ended(2)
        assert [job.id for job in handlers.ended] == [second.id, first.id]
        assert (await run.stop()).completed == 2
