"""What a worker says of itself at a moment, and what its queue holds."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.waiting import wait_until
from tests.support.workers import NEVER, running
from trio_graphile import (
    Backlog,
    Client,
    Database,
    JobSpec,
    ListenState,
    LocalQueueOptions,
    SchemaMissing,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    WorkerPhase,
    WorkerStatistics,
)


async def test_a_worker_that_does_not_run_says_so(database: Database, handlers: Handlers) -> None:
    worker = Worker(database, handlers.tasks)
    assert worker.statistics() == WorkerStatistics()
    await worker.run_once()
    assert worker.statistics().phase is WorkerPhase.NOT_RUNNING


async def test_a_worker_at_work(database: Database, client: Client, handlers: Handlers) -> None:
    options = WorkerOptions(concurrency=2, poll_interval=NEVER, local_queue=LocalQueueOptions(size=3))
    worker = Worker(database, handlers.tasks, options)
    await client.add_raw_jobs([("held", None)] * 4)
    async with running(worker):
        await handlers.wait_started(2)
        await wait_until(lambda: worker.statistics().heartbeat_age is not None)
        statistics = worker.statistics()
        assert (statistics.phase, statistics.listen_state) == (WorkerPhase.RUNNING, ListenState.LISTENING)
        assert (statistics.slots, statistics.busy, statistics.held) == (2, 2, 2)
        assert [running.job.id for running in statistics.running] == [job.id for job in handlers.started]
        assert statistics.lease_holds
        assert statistics.claim_age is not None
        assert 0 <= statistics.claim_age < 20
        assert 0 <= (statistics.heartbeat_age or 0) < 20
        assert (statistics.claim_pending, statistics.record_pending) == (0, 0)
        handlers.release.set()


async def test_its_phases(database: Database, client: Client, handlers: Handlers) -> None:
    seen: list[WorkerPhase] = []
    workers: list[Worker] = []

    class Watching(TaskRegistry):
        @property
        def identifiers(self) -> tuple[str, ...]:
            seen.extend(worker.statistics().phase for worker in workers)
            return super().identifiers

    watching = Watching()
    watching.include(handlers.tasks)
    options = WorkerOptions(shutdown=ShutdownOptions(grace_period=600))
    worker = Worker(database, watching, options)
    workers.append(worker)
    async with running(worker) as run:
        assert seen[-1] in (WorkerPhase.STARTING, WorkerPhase.RUNNING)
        assert WorkerPhase.STARTING in seen
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        assert worker.statistics().phase is WorkerPhase.RUNNING
        worker.stop()
        assert worker.statistics().phase is WorkerPhase.STOPPING
        handlers.release.set()
        await run.wait()
    assert worker.statistics().phase is WorkerPhase.NOT_RUNNING


async def test_without_notifications_it_does_not_listen(database: Database, handlers: Handlers) -> None:
    worker = Worker(database, handlers.tasks, WorkerOptions(notifications=False))
    async with running(worker):
        assert worker.statistics().listen_state is ListenState.OFF


async def test_a_claim_and_a_record_that_hang_are_seen(
    database: Database, client: Client, handlers: Handlers
) -> None:
    worker = Worker(database, handlers.tasks, WorkerOptions(concurrency=2, poll_interval=NEVER))
    async with running(worker):
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        async with database.transaction() as connection:
            await connection.execute("lock graphile_worker._private_jobs in access exclusive mode")
            handlers.release.set()
            await wait_until(lambda: worker.statistics().record_pending > 0)
            assert worker.statistics().unrecorded == 1
            await connection.execute("select pg_notify('jobs:insert', '{\"count\": 1}')")
        await wait_until(lambda: worker.statistics().unrecorded == 0)
        assert worker.statistics().record_pending == 0
        async with database.transaction() as connection:
            await connection.execute("lock graphile_worker._private_jobs in access exclusive mode")
            async with database.connection() as other:
                await other.execute("select pg_notify('jobs:insert', '{\"count\": 1}')")
            await wait_until(lambda: worker.statistics().claim_pending > 0)
        await wait_until(lambda: worker.statistics().claim_pending == 0)


async def test_a_handler_that_blocks_the_event_loop_is_seen_as_lag(database: Database) -> None:
    tasks, blocked = TaskRegistry(), trio.Event()

    @tasks.task("block")
    async def block() -> None:
        until = time.monotonic() + 0.7  # longer than it takes until the loop is asked again
        while time.monotonic() < until:
            pass
        blocked.set()

    worker = Worker(database, tasks)
    async with running(worker):
        await wait_until(lambda: worker.statistics().loop_lag > 0)
        await Client(database).add_raw_job("block")
        await wait_until(lambda: blocked.is_set() and worker.statistics().loop_lag > 0.1)


async def test_the_backlog_by_state(database: Database, client: Client, table: Table) -> None:
    assert await client.backlog() == Backlog(ready=0, scheduled=0, locked=0, failed=0)
    later = datetime(2100, 1, 1, tzinfo=UTC)
    jobs = await client.add_raw_jobs([("a", None)] * 4 + [("a", None, JobSpec(run_at=later))] * 2)
    await client.permanently_fail_jobs([jobs[0].id])
    await database.execute(
        """
        update graphile_worker._private_jobs
        set locked_by = 'somebody', locked_at = now(), attempts = 1
        where id = $1::bigint
        """,
        jobs[1].id,
    )
    await database.execute(
        "update graphile_worker._private_jobs set run_at = now() - interval '1 hour' where id = $1::bigint",
        jobs[2].id,
    )
    backlog = await client.backlog()
    assert (backlog.ready, backlog.scheduled, backlog.locked, backlog.failed) == (2, 2, 1, 1)
    assert backlog.oldest_ready is not None
    assert 3600 <= backlog.oldest_ready < 3660
    assert await Worker(database, TaskRegistry()).backlog() is not None


async def test_a_job_that_runs_for_the_last_time_is_locked_and_not_failed(
    database: Database, client: Client
) -> None:
    await client.add_raw_job("a", None, JobSpec(max_attempts=1))
    await database.execute(
        "update graphile_worker._private_jobs set locked_by = 'x', locked_at = now(), attempts = 1"
    )
    backlog = await client.backlog()
    assert (backlog.locked, backlog.failed) == (1, 0)


async def test_a_schema_that_is_missing_is_named(database: Database, client: Client) -> None:
    await database.execute("drop schema graphile_worker cascade")
    with pytest.raises(SchemaMissing):
        await client.backlog()
