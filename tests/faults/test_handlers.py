"""Handlers during a fault: one that blocks the event loop, and those that need the database themselves."""

from __future__ import annotations

import threading

import pytest
import trio

from tests.faults.conftest import Stage
from tests.faults.load import PATIENCE, Ending, Load, check_nothing_locked, drain
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    DatabaseOptions,
    JobContext,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    Worker,
    WorkerOptions,
    open_database,
)

END_SESSIONS = """
    select count(pg_terminate_backend(pid))
    from pg_stat_activity
    where datname = current_database() and application_name like 'trio_graphile _%'
"""
IS_RENEWED = """
    select locked_at > $2::timestamptz
    from graphile_worker._private_jobs
    where id = $1::bigint
"""


async def end_sessions_until_renewed(url: str, job_id: int) -> None:
    """Twice, end all the sessions of a worker, and wait until it has renewed a job's lock all the same."""
    async with open_database(url, DatabaseOptions(pool_size=1)) as database:
        for _ in range(2):
            ended_at = await database.fetch_value("select clock_timestamp()")
            with trio.fail_after(PATIENCE):
                while not await database.fetch_value(END_SESSIONS):
                    pass  # the worker has none at this moment: it is about to open one again
                renewed = False
                while not renewed:
                    renewed = await database.fetch_value(IS_RENEWED, job_id, ended_at)


@pytest.mark.parametrize("prefetched", [0, 10])
async def test_a_handler_that_blocks_the_event_loop_through_a_fault_keeps_its_job(
    database: Database, database_url: str, prefetched: int
) -> None:
    load, failures = Load(), list[str]()

    def bring_fault(job_id: int) -> None:
        try:
            trio.run(end_sessions_until_renewed, database_url, job_id)
        except Exception as error:  # noqa: BLE001  # it is the test's to raise, and this is a thread
            failures.append(repr(error))

    @load.tasks.task("blocking")
    async def blocking(context: JobContext) -> None:
        with load.running(context.job):
            fault = threading.Thread(target=bring_fault, args=(context.job.id,))
            fault.start()
            fault.join()  # the whole event loop waits

    client = Client(database, load.tasks)
    options = WorkerOptions(
        concurrency=4,
        poll_interval=0.5,
        lease=LeaseOptions(length=300.0, renew_interval=0.05),
        local_queue=LocalQueueOptions(size=prefetched),
    )
    async with trio.open_nursery() as nursery:
        worker = Worker(database, load.tasks, options)
        await nursery.start(worker.run)
        await load.add(client)
        await load.add(client, [("blocking", None, JobSpec(queue_name="first"))])
        await load.add(client)
        await load.wait_until(
            lambda: any(runs[0].job.task_identifier == "blocking" for runs in load.runs.values())
        )
        await drain(database)
        worker.stop()
    assert not failures, failures
    assert load.check() == 0
    await check_nothing_locked(database)


async def test_a_handler_that_needs_the_database_during_a_fault_fails_and_is_tried_again(
    stage: Stage,
) -> None:
    load, errors = Load(), list[DatabaseError]()

    @load.tasks.task("late_to_ask")
    async def late_to_ask(context: JobContext) -> None:
        with load.running(context.job):
            await load.release.wait()
            try:
                await context.database.fetch_value("select 1")
            except DatabaseError as error:
                errors.append(error)
                raise

    client = Client(stage.database, load.tasks)
    async with trio.open_nursery() as nursery:
        worker = Worker(stage.through, load.tasks, WorkerOptions(concurrency=4, poll_interval=0.5))
        await nursery.start(worker.run)
        await load.add(client, [("late_to_ask", None, JobSpec())] * 3)
        await load.wait_until(lambda: len(load.runs) == 3)
        stage.proxy.refuse()
        stage.proxy.reset()
        load.release.set()
        await load.wait_until(lambda: len(errors) == 3)
        await stage.proxy.heal()
        await drain(stage.database)
        worker.stop()
    assert all(error.transient for error in errors)
    assert [[run.ending for run in runs] for runs in load.runs.values()] == [
        [Ending.RAISED, Ending.RETURNED]
    ] * 3
    assert load.check() == 0
    await check_nothing_locked(stage.database)
