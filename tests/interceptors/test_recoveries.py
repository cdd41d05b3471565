"""What is told of the jobs of dead workers, and who decides what becomes of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from tests.hooks.recorder import Recorder
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.workers import NEVER, running
from tests.worker.clocks import NOON
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    OptionInvalid,
    RecoveryOptions,
    Worker,
    WorkerOptions,
)
from trio_graphile._database import worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile.hooks import (
    Continue,
    Fail,
    FailWithBackoff,
    Hooks,
    InterruptReason,
    JobInterrupted,
    JobToRecover,
    LocksReset,
    Reschedule,
    Skip,
    WorkersRecovered,
)


async def bury(database: Database, client: Client, *specs: JobSpec, worker: str = "dead") -> list[int]:
    """Leave jobs behind as a registered worker that died an hour ago; return their ids."""
    jobs = await client.add_raw_jobs([("quick", number, spec) for number, spec in enumerate(specs)])
    async with database.connection() as connection:
        await worker_registry.heartbeat(connection, worker, {})
        await claims.get_jobs(connection, worker, ["quick"], 100)
        await connection.execute("""
            update graphile_worker._private_workers
            set last_heartbeat_at = now() - interval '1 hour'
            where id = 'dead'
        """)
    return [job.id for job in jobs]


SWEEPING = WorkerOptions(
    concurrency=1,
    poll_interval=NEVER,
    recovery=RecoveryOptions(sweep_interval=0.05, reset_interval=0.05, recovery_delay=600),
)


async def test_a_recovery_is_told_once_it_is_committed(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    ids = await bury(database, client, JobSpec(), JobSpec(queue_name="q"))
    hooks, recorder, seen = Hooks(), Recorder(), list[Any]()

    @hooks.on(WorkersRecovered)
    async def look(_: WorkersRecovered) -> None:
        seen.extend(await table.jobs())

    async with running(Worker(database, handlers.tasks, SWEEPING, plugins=[hooks, recorder])) as run:
        await recorder.wait_for(WorkersRecovered)
        await recorder.wait_for(LocksReset)
        worker_id = run.worker.worker_id
    [recovered] = recorder.of(WorkersRecovered)
    assert (recovered.dead_worker_ids, recovered.jobs) == (("dead",), 2)
    assert [(row["attempts"], row["locked_by"]) for row in seen] == [(0, None)] * 2
    told = recorder.of(JobInterrupted)
    assert [(event.job.id, event.reason, event.previous_worker_id) for event in told] == [
        (id_, InterruptReason.WORKER_CRASHED, "dead") for id_ in ids
    ]
    assert {event.worker_id for event in told} == {worker_id}


LATER = NOON.replace(year=2090)
DECISIONS: dict[str, tuple[Any, tuple[int, str | None, bool]]] = {
    "nothing": (lambda _: None, (0, "Job recovered after worker interruption", False)),
    "default": (lambda _: Continue(), (0, "Job recovered after worker interruption", False)),
    "reschedule": (lambda _: Reschedule(LATER), (0, "Job recovered after worker interruption", False)),
    "with attempts": (lambda _: Reschedule(LATER, 3), (3, "Job recovered after worker interruption", False)),
    "fail": (lambda _: FailWithBackoff(), (1, "WorkerCrashed", False)),
    "skip": (lambda _: Skip(), (1, None, True)),
    "a mistake": (lambda _: Fail("no"), (0, "Job recovered after worker interruption", False)),
}


def deciding(answer: Any) -> tuple[Hooks, list[JobToRecover]]:
    hooks, asked = Hooks(), list[JobToRecover]()

    @hooks.recover_job
    async def decide(job: JobToRecover) -> Any:
        await trio.lowlevel.checkpoint()
        asked.append(job)
        return answer(job)

    return hooks, asked


@pytest.mark.parametrize("decision", DECISIONS)
async def test_an_interceptor_decides_what_becomes_of_a_job_of_the_dead(
    database: Database, client: Client, table: Table, decision: str
) -> None:
    answer, expected = DECISIONS[decision]
    [job_id] = await bury(database, client, JobSpec(queue_name="q"))
    hooks, asked = deciding(answer)
    report = await Client(database, plugins=[hooks]).sweep_stale_workers(recovery_delay=60)
    assert [(job.job.id, job.previous_worker_id, job.worker_id) for job in asked] == [
        (job_id, "dead", "client")
    ]
    assert asked[0].job.queue_name == "q"
    [row] = await table.jobs()
    is_locked = row["locked_by"] == "dead"
    assert (row["attempts"], row["last_error"], is_locked) == expected
    assert report.worker_ids == ("dead",)
    assert report.recovered_jobs == (0 if is_locked else 1)
    assert await table.locked_queues() == ({"q": "dead"} if is_locked else {}), "a queue goes with its job"
    delay = row["delay"]
    assert isinstance(delay, float)
    match decision:
        case "reschedule" | "with attempts":
            assert row["run_at"] == LATER
        case "fail":
            assert 1 < delay < 5
        case "skip":
            assert delay < 1
        case _:
            assert 30 < delay <= 60


async def test_what_is_skipped_is_asked_about_again(database: Database, client: Client, table: Table) -> None:
    await bury(database, client, JobSpec())
    answers = iter([Skip(), None])
    hooks, asked = deciding(lambda _: next(answers))
    deciding_client = Client(database, plugins=[hooks])
    assert (await deciding_client.sweep_stale_workers()).recovered_jobs == 0
    assert (await deciding_client.sweep_stale_workers()).recovered_jobs == 1
    assert len(asked) == 2
    assert (await deciding_client.sweep_stale_workers()).worker_ids == ()


async def test_an_interceptor_of_recoveries_that_raises_changes_nothing(
    database: Database, client: Client, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_: JobToRecover) -> None:
        raise LookupError("who died")

    await bury(database, client, JobSpec())
    hooks, _ = deciding(raises)
    assert (await Client(database, plugins=[hooks]).sweep_stale_workers()).recovered_jobs == 1
    assert "who died" in caplog.text


async def test_a_decision_about_a_job_that_moved_on_meanwhile_is_of_no_effect(
    database: Database, client: Client, table: Table
) -> None:
    [job_id] = await bury(database, client, JobSpec())
    hooks = Hooks()

    @hooks.recover_job
    async def too_late(_: JobToRecover) -> Reschedule:
        await client.force_unlock_workers(["dead"])
        return Reschedule(LATER)

    report = await Client(database, plugins=[hooks]).sweep_stale_workers()
    assert report.recovered_jobs == 0
    [row] = await table.jobs()
    assert (row["id"], row["attempts"], row["run_at"] != LATER) == (job_id, 1, True)


async def test_the_sweeper_of_a_worker_asks_too(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await bury(database, client, JobSpec())
    hooks, asked = deciding(lambda _: FailWithBackoff())
    recorder = Recorder()
    async with running(Worker(database, handlers.tasks, SWEEPING, plugins=[hooks, recorder])) as run:
        await recorder.wait_for(WorkersRecovered)
        assert asked[0].worker_id == run.worker.worker_id
    assert len(recorder.of(JobInterrupted)) == 1
    [row] = await table.jobs()
    assert row["last_error"] == "WorkerCrashed"


NO_HELD_JOB_IS_LOCKED = """
    select not exists (
      select
      from graphile_worker._private_jobs as jobs
      join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
      where tasks.identifier = 'held' and jobs.locked_by is not null
    )
"""


async def test_an_interceptor_that_does_not_end_holds_up_no_outcome_of_a_worker_that_does(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await bury(database, client, JobSpec())
    hooks, asked, answers = Hooks(), trio.Event(), threading.Event()

    @hooks.recover_job
    async def wait(_: JobToRecover) -> None:
        asked.set()
        await trio.to_thread.run_sync(answers.wait)  # which no cancellation interrupts

    async def run_until(ending: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(Worker(database, handlers.tasks, SWEEPING, plugins=[hooks]).run)
            await handlers.wait_started(1)
            await ending.wait()
            nursery.cancel_scope.cancel()

    await client.add_raw_job("held", None, JobSpec(queue_name="q"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_until, asked)
        try:
            await asked.wait()
            await handlers.wait_started(1)
            await table.wait_until(NO_HELD_JOB_IS_LOCKED)
        finally:
            answers.set()
    assert len(handlers.cancelled) == 1


@pytest.mark.parametrize(
    ("run_at", "attempts", "message"),
    [
        (LATER.replace(tzinfo=None), None, "run_at: a datetime with a time zone is needed"),
        (60, None, "run_at: a datetime with a time zone is needed"),
        (LATER, -1, "attempts: a number of attempts from 0 is needed"),
        (LATER, True, "attempts: a number of attempts from 0 is needed"),
        (LATER, 40_000, "attempts: a number of attempts from 0 is needed"),
    ],
)
def test_what_no_job_can_have_is_refused(run_at: Any, attempts: Any, message: str) -> None:
    with pytest.raises(OptionInvalid, match=f"^{message}"):
        Reschedule(run_at, attempts)
