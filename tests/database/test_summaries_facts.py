"""What stands around a job: who could run it, who has it, and what comes before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest

from tests.database.random_jobs import add_random_jobs, all_jobs
from trio_graphile import Client, Connection, Database, JobSpec
from trio_graphile._database import worker_registry
from trio_graphile._database.summaries.facts import facts_of_job
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.explanation import JobFacts, LockOwner, TaskWorker
from trio_graphile._model.inspection import JobState
from trio_graphile._model.listing import Count
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.statistics import WorkerPhase

OURS = "trio_graphile_one"
RULES = SweepOptions(sweep_threshold=60.0, foreign_threshold=120.0, orphan_threshold=600.0)
LOCK = """
    update graphile_worker._private_jobs
    set locked_by = $2::text, locked_at = now(), attempts = 1
    where id = $1::bigint
"""
LOCK_QUEUE = """
    update graphile_worker._private_job_queues
    set locked_by = $1::text, locked_at = now()
"""
SILENCE = """
    update graphile_worker._private_workers
    set last_heartbeat_at = now() - make_interval(secs => $1::float8)
"""


async def facts(database: Database | Connection, job_id: int, **limits: int) -> JobFacts:
    found = await facts_of_job(database, job_id, RULES, **limits)
    assert found is not None
    return found


async def add(database: Database, *, task: str = "a", queue: str | None = None, **options: Any) -> int:
    job = await Client(database).add_raw_job(task, {}, JobSpec(queue_name=queue, **options))
    return job.id


def rank(job: Mapping[str, Any]) -> tuple[Any, ...]:
    return job["priority"], job["run_at"], job["id"]


async def test_there_are_no_facts_of_a_job_that_does_not_exist(database: Database) -> None:
    assert await facts_of_job(database, 1) is None


@pytest.mark.parametrize("seed", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("dropped", [(), ("trio_graphile_task_index", "trio_graphile_queue_index")])
async def test_what_comes_before_a_job_is_as_counted_by_hand(
    connection: Connection, seed: float, dropped: tuple[str, ...]
) -> None:
    await add_random_jobs(connection, 60, seed)
    for index in dropped:
        await connection.execute(f"drop index graphile_worker.{index}")
    async with connection.transaction():
        jobs = await all_jobs(connection)
        found = {job["id"]: await facts(connection, job["id"]) for job in jobs}
    for job in jobs:
        column = "task_id" if job["job_queue_id"] is None else "job_queue_id"
        ahead = [
            other
            for other in jobs
            if other["state"] == "ready"
            and other[column] == job[column]
            and (other["job_queue_id"] is None) == (job["job_queue_id"] is None)
            and rank(other) < rank(job)
        ]
        one = found[job["id"]]
        assert one.listed.state == job["state"]
        if job["job_queue_id"] is None:
            assert (one.ahead, one.queue) == (Count(value=len(ahead)), None)
        else:
            assert one.queue is not None
            assert one.queue.ahead == Count(value=len(ahead))
            first = min(ahead, key=rank, default=None)
            assert one.queue.first_ahead_id == (first and first["id"])


async def test_beyond_the_cap_there_are_at_least_so_many_before_it(database: Database) -> None:
    for queue in (None, "q"):
        ids = [await add(database, queue=queue) for _ in range(6)]
        for cap, count in [(5, Count(value=5)), (4, Count(value=4, is_estimate=True))]:
            last = await facts(database, ids[-1], cap=cap)
            assert (last.ahead if last.queue is None else last.queue.ahead) == count


async def test_workers_that_have_the_task_are_told_with_their_rules(database: Database) -> None:
    job_id = await add(database)
    rules = {"phase": "stopping", "forbidden_flags": ["x"], "accepted_flags": ["y"], "allowed_flags": []}
    assert attrs.fields_dict(ClaimRules).keys() == rules.keys() - {"phase"}
    await worker_registry.heartbeat(database, "one", {"tasks": ["a", "b"], **rules})
    await worker_registry.heartbeat(database, "two", {"tasks": ["a"], "phase": 7, "forbidden_flags": "x"})
    await worker_registry.heartbeat(database, "other", {"tasks": ["b"]})
    for number, says in enumerate(({"pid": 1}, [1], "text", {"tasks": "a"}, None)):
        await worker_registry.heartbeat(database, f"silent-{number}", says)
    found = await facts(database, job_id)
    assert set(found.workers) == {
        TaskWorker(
            worker_id="one",
            phase=WorkerPhase.STOPPING,
            forbidden_flags=("x",),
            accepted_flags=("y",),
            allowed_flags=(),
        ),
        TaskWorker(worker_id="two"),
    }
    assert found.silent_workers == 5
    await database.execute(SILENCE, 61.0)
    gone = await facts(database, job_id)
    assert (gone.workers, gone.silent_workers) == ((), 0)


@pytest.mark.parametrize(
    ("worker_id", "is_registered", "patience"),
    [(OURS, True, 60.0), ("rust", True, 120.0), (OURS, False, 60.0), ("node", False, 600.0)],
)
@pytest.mark.parametrize("is_stale", [False, True])
async def test_who_has_a_job_is_known_and_when_it_comes_back(
    database: Database, worker_id: str, patience: float, *, is_registered: bool, is_stale: bool
) -> None:
    job_id = await add(database)
    assert (await facts(database, job_id)).owner is None
    await database.execute(LOCK, job_id, worker_id)
    silence = patience + 1 if is_stale else patience - 30
    if is_registered:
        await worker_registry.heartbeat(database, worker_id)
        await database.execute(SILENCE, silence)
    else:
        await database.execute(
            "update graphile_worker._private_jobs set locked_at = now() - make_interval(secs => $1)", silence
        )
    found = await facts(database, job_id)
    assert found.listed.state == JobState.LOCKED
    owner = found.owner
    assert owner is not None
    assert (owner.worker_id, owner.is_registered, owner.is_stale) == (worker_id, is_registered, is_stale)
    assert owner.last_sign_at is not None
    assert timedelta(0) <= found.now - owner.last_sign_at - timedelta(seconds=silence) < timedelta(seconds=15)
    assert owner.given_back_at == owner.last_sign_at + timedelta(seconds=patience)


async def test_a_job_with_a_resilient_flag_is_given_back_later(database: Database) -> None:
    job_id = await add(database, flags=["infrastructure_resilient"])
    await worker_registry.heartbeat(database, OURS)
    await database.execute(LOCK, job_id, OURS)
    owner = (await facts(database, job_id)).owner
    assert owner is not None
    assert owner.last_sign_at is not None
    assert owner.given_back_at == owner.last_sign_at + timedelta(seconds=180)


async def test_a_locked_queue_is_told_with_its_owner_and_the_job_that_runs(database: Database) -> None:
    running, waiting, scheduled = [await add(database, queue="q") for _ in range(3)]
    elsewhere = await add(database, queue="other")
    await database.execute(LOCK, running, OURS)
    await database.execute(LOCK, elsewhere, OURS)
    await database.execute(LOCK_QUEUE, OURS)
    await worker_registry.heartbeat(database, OURS, {"tasks": ["a"]})
    queue = (await facts(database, scheduled)).queue
    assert queue is not None
    assert (queue.queue_name, queue.running_id) == ("q", running)
    assert (queue.ahead, queue.first_ahead_id) == (Count(value=1), waiting)
    assert queue.locked_at is not None
    assert queue.owner is not None
    assert (queue.owner.worker_id, queue.owner.is_registered) == (OURS, True)
    itself = (await facts(database, running)).queue
    assert itself is not None
    assert itself.running_id == running


async def test_the_job_that_runs_is_not_looked_for_far_and_wide(database: Database) -> None:
    running, *_, last = [await add(database, queue="q") for _ in range(9)]
    await database.execute(LOCK, running, OURS)
    await database.execute(LOCK_QUEUE, OURS)
    near = (await facts(database, last, window=18)).queue
    far = (await facts(database, last, window=10)).queue
    assert near is not None
    assert far is not None
    assert (near.running_id, far.running_id) == (running, None)


async def test_a_free_queue_has_no_owner(database: Database) -> None:
    queue = (await facts(database, await add(database, queue="q"))).queue
    assert queue is not None
    assert (queue.owner, queue.locked_at, queue.running_id, queue.first_ahead_id) == (None, None, None, None)


async def test_facts_are_had_without_the_registry_and_without_the_row_of_the_queue(
    database: Database,
) -> None:
    """As in a schema that another program made, or cleaned up."""
    job_id = await add(database, queue="q")
    await database.execute("drop table graphile_worker._private_workers")
    await database.execute("delete from graphile_worker._private_job_queues")
    found = await facts(database, job_id)
    assert (found.queue, found.ahead, found.workers, found.silent_workers) == (None, Count(value=0), (), 0)


async def test_a_lock_without_a_time_has_an_owner_all_the_same(database: Database) -> None:
    """No program of ours writes that, but any may."""
    job_id = await add(database)
    await database.execute("update graphile_worker._private_jobs set locked_by = 'odd'")
    found = await facts(database, job_id)
    assert found.owner == LockOwner(worker_id="odd")
    assert found.listed.state == JobState.READY
