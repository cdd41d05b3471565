"""What a worker tells of itself: its life, its claims, and what it hears."""

from __future__ import annotations

import itertools

import attrs
import pytest

from tests.hooks.recorder import Recorder
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.workers import NEVER, SOON, running
from trio_graphile import (
    Client,
    Database,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    RefetchDelayOptions,
    ShutdownOptions,
    StopCause,
    Worker,
    WorkerOptions,
)
from trio_graphile._model.local_queue import Mode
from trio_graphile.hooks import (
    ClaimFailed,
    GracePeriodOver,
    Hooks,
    InterruptReason,
    JobInterrupted,
    JobsClaimed,
    LeaseExpiring,
    LeaseRestored,
    ListenConnecting,
    ListenLost,
    ListenRestored,
    LocalQueueModeChanged,
    RefetchDelayAborted,
    RefetchDelayExpired,
    RefetchDelayStarted,
    ShutdownForced,
    ShutdownStarted,
    WorkerEnded,
    WorkerStarted,
    WorkerStarting,
)

LIFE = (WorkerStarting, WorkerStarted, ShutdownStarted, GracePeriodOver, ShutdownForced, WorkerEnded)
KILL_LISTENERS = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where application_name = 'trio_graphile claim' and datname = current_database()
"""


# --- its life -----------------------------------------------------------------------------------


async def test_the_life_of_a_worker_that_is_stopped(database: Database, handlers: Handlers) -> None:
    recorder = Recorder()
    worker = Worker(database, handlers.tasks, WorkerOptions(concurrency=3), plugins=[recorder])
    async with running(worker) as run:
        report = await run.stop()
    assert recorder.names(*LIFE) == ["WorkerStarting", "WorkerStarted", "ShutdownStarted", "WorkerEnded"]
    [starting], [ended] = recorder.of(WorkerStarting), recorder.of(WorkerEnded)
    assert (starting.schema, starting.concurrency) == ("graphile_worker", 3)
    assert starting.tasks == ("quick", "held", "failing")
    assert (ended.cause, ended.report, ended.error) == (StopCause.STOPPED, report, None)
    assert recorder.of(ShutdownStarted)[0].cause is StopCause.STOPPED
    assert recorder.of(ListenConnecting)[0].attempt == 1
    assert len(recorder.of(ListenRestored)) == 1


async def test_of_one_that_drains_the_queue(database: Database, handlers: Handlers) -> None:
    recorder = Recorder()
    await Worker(database, handlers.tasks, plugins=[recorder]).run_once()
    assert recorder.names(*LIFE) == ["WorkerStarting", "WorkerStarted", "ShutdownStarted", "WorkerEnded"]
    assert recorder.of(WorkerEnded)[0].cause is StopCause.DRAINED
    assert recorder.of(ListenConnecting) == []


async def test_of_one_whose_handlers_do_not_end_in_time(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    worker = Worker(database, handlers.tasks, WorkerOptions(shutdown=SOON), plugins=[recorder])
    async with running(worker) as run:
        job = await client.add_raw_job("held")
        await handlers.wait_started(1)
        await run.stop()
    assert recorder.names(*LIFE)[2:] == ["ShutdownStarted", "GracePeriodOver", "WorkerEnded"]
    assert [running.id for running in recorder.of(ShutdownStarted)[0].running] == [job.id]
    assert [running.id for running in recorder.of(GracePeriodOver)[0].running] == [job.id]


async def test_of_one_that_is_stopped_and_then_cancelled(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    options = WorkerOptions(shutdown=ShutdownOptions(grace_period=600))
    worker = Worker(database, handlers.tasks, options, plugins=[recorder])
    async with running(worker) as run:
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        worker.stop()
        await recorder.wait_for(ShutdownStarted)
        worker.cancel()
        await run.wait()
    assert recorder.names(*LIFE)[2:] == ["ShutdownStarted", "ShutdownForced", "WorkerEnded"]
    assert len(recorder.of(ShutdownForced)[0].running) == 1


async def test_of_one_that_is_cancelled_when_it_is_over(database: Database, handlers: Handlers) -> None:
    recorder = Recorder()

    @attrs.frozen
    class Late:
        def register(self, hooks: Hooks) -> None:
            hooks.on(WorkerEnded, lambda _: worker.cancel())

    worker = Worker(database, handlers.tasks, plugins=[Late(), recorder])
    report = await worker.run_once()
    assert report.cause is StopCause.DRAINED
    assert recorder.names(*LIFE)[-2:] == ["ShutdownStarted", "WorkerEnded"]


async def test_of_one_that_cannot_start(database: Database, handlers: Handlers) -> None:
    """What keeps it from starting is raised as ever, and told."""
    recorder = Recorder()
    await database.execute("drop schema graphile_worker cascade; create schema graphile_worker")
    await database.execute("create table graphile_worker.migrations (id text)")
    with pytest.raises(Exception) as raised:  # noqa: PT011  # whichever it is, observers change nothing
        await Worker(database, handlers.tasks).run_once()
    with pytest.raises(type(raised.value)):
        await Worker(database, handlers.tasks, plugins=[recorder]).run_once()
    assert recorder.names(*LIFE) == ["WorkerStarting", "WorkerEnded"]
    [ended] = recorder.of(WorkerEnded)
    assert (ended.cause, ended.report) == (None, None)
    assert (ended.error or "").startswith(type(raised.value).__name__)


async def test_a_worker_that_was_stopped_before_it_ran_has_no_life(
    database: Database, handlers: Handlers
) -> None:
    recorder = Recorder()
    worker = Worker(database, handlers.tasks, plugins=[recorder])
    worker.stop()
    await worker.run()
    assert recorder.events == []


# --- its claims ---------------------------------------------------------------------------------


async def test_claims_and_modes_are_told(database: Database, client: Client, handlers: Handlers) -> None:
    recorder = Recorder()
    await client.add_raw_jobs([("quick", None)] * 3)
    options = WorkerOptions(concurrency=1, poll_interval=NEVER, local_queue=LocalQueueOptions(size=5))
    async with running(Worker(database, handlers.tasks, options, plugins=[recorder])):
        await recorder.wait_for(JobsClaimed)
        await handlers.wait_ended(3)
    first = recorder.of(JobsClaimed)[0]
    assert (first.count, first.limit) == (3, 6)
    assert first.duration > 0
    modes = [(event.old, event.new) for event in recorder.of(LocalQueueModeChanged)]
    assert modes[:3] == [
        (Mode.STARTING, Mode.POLLING),
        (Mode.POLLING, Mode.HOLDING),
        (Mode.HOLDING, Mode.POLLING),
    ]
    assert modes[-1][1] is Mode.RELEASED
    assert all(old is before for (_, before), (old, _) in itertools.pairwise(modes))


async def test_a_claim_that_finds_nothing_is_told(database: Database, handlers: Handlers) -> None:
    recorder = Recorder()
    async with running(Worker(database, handlers.tasks, plugins=[recorder])):
        await recorder.wait_for(JobsClaimed, lambda event: event.count == 0)


async def test_a_refetch_delay_is_told_from_its_start_to_its_end(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    delay = RefetchDelayOptions(duration=0.05, threshold=5, max_abort_threshold=float("inf"))
    local_queue = LocalQueueOptions(size=10, refetch_delay=delay)
    options = WorkerOptions(concurrency=1, poll_interval=0.1, local_queue=local_queue)
    async with running(Worker(database, handlers.tasks, options, plugins=[recorder])):
        await recorder.wait_for(RefetchDelayExpired)
    [started, *_] = recorder.of(RefetchDelayStarted)
    assert 0.025 <= started.duration <= 0.075
    assert (started.threshold, started.abort_threshold) == (5, float("inf"))
    assert recorder.of(RefetchDelayAborted) == []


async def test_a_refetch_delay_that_is_cut_short_is_told(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    delay = RefetchDelayOptions(duration=500, threshold=100, max_abort_threshold=1)
    local_queue = LocalQueueOptions(size=10, refetch_delay=delay)
    options = WorkerOptions(concurrency=1, poll_interval=NEVER, local_queue=local_queue)
    async with running(Worker(database, handlers.tasks, options, plugins=[recorder])):
        await recorder.wait_for(RefetchDelayStarted)
        await client.add_raw_jobs([("quick", None)] * 3)
        aborted = await recorder.wait_for(RefetchDelayAborted)
        await handlers.wait_ended(3)
    assert aborted.count >= 1
    assert aborted.abort_threshold == 1


async def test_a_claim_that_fails_is_told(database: Database, table: Table, handlers: Handlers) -> None:
    recorder = Recorder()
    options = WorkerOptions(concurrency=1, poll_interval=0.05)
    async with running(Worker(database, handlers.tasks, options, plugins=[recorder])):
        await recorder.wait_for(JobsClaimed)
        async with database.transaction() as connection:  # on which a claim waits, to be cut off
            await connection.execute("lock graphile_worker._private_jobs in access exclusive mode")
            await table.wait_until("""
                with claims as materialized (
                  select pid
                  from pg_stat_activity
                  where application_name = 'trio_graphile claim'
                    and datname = current_database()
                    and wait_event_type = 'Lock'
                )
                select exists (select from claims where pg_terminate_backend(pid))
            """)
        failed = await recorder.wait_for(ClaimFailed)
        count = len(recorder.of(JobsClaimed))
        await recorder.wait_for(JobsClaimed, count=count + 1)
    assert failed.retry_in > 0
    assert failed.error


# --- what it hears ------------------------------------------------------------------------------


async def test_a_lost_session_is_told_and_that_it_is_back(database: Database, handlers: Handlers) -> None:
    recorder = Recorder()
    async with running(Worker(database, handlers.tasks, plugins=[recorder])):
        await recorder.wait_for(ListenRestored)
        await database.execute(KILL_LISTENERS)
        await recorder.wait_for(ListenRestored, count=2)
    names = recorder.names(ListenConnecting, ListenLost, ListenRestored)
    assert names == ["ListenConnecting", "ListenRestored", "ListenLost", "ListenConnecting", "ListenRestored"]
    assert [event.attempt for event in recorder.of(ListenConnecting)] == [1, 1]
    assert recorder.of(ListenLost)[0].retry_in > 0


async def test_the_end_of_a_lease_is_told_and_that_it_holds_again(
    database: Database, client: Client, handlers: Handlers
) -> None:
    recorder = Recorder()
    options = WorkerOptions(
        concurrency=1,
        lease=LeaseOptions(length=0.5, renew_interval=0.1, margin=0.1),
        recovery=RecoveryOptions(sweep_threshold=10),
    )
    async with running(Worker(database, handlers.tasks, options, plugins=[recorder])):
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        async with database.transaction() as connection:  # the renewal's heartbeat waits for it
            await connection.execute("lock graphile_worker._private_workers in access exclusive mode")
            await recorder.wait_for(LeaseExpiring)
            await handlers.wait_cancelled(1)
        await recorder.wait_for(LeaseRestored)
        await recorder.wait_for(JobInterrupted)
        handlers.release.set()
    assert recorder.of(JobInterrupted)[0].reason is InterruptReason.LEASE
