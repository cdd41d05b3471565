"""Looking at the queue."""

from __future__ import annotations

import pytest

from trio_graphile import Client, Database, JobSpec, OptionInvalid
from trio_graphile._database import inspection
from trio_graphile._database.sweeps import recover_dead_worker
from trio_graphile._model.inspection import JobFilter, JobState

LOCK = """
    update graphile_worker._private_jobs
    set locked_by = $1::text, locked_at = now(), attempts = 1
    where id = any($2::bigint[])
"""


async def test_a_job_is_seen_though_its_task_and_queue_are_gone(database: Database) -> None:
    """As a foreign program's clean-up leaves it."""
    job = await Client(database).add_raw_job("a", {"x": 1}, JobSpec(queue_name="q", flags=["f"]))
    await database.execute("delete from graphile_worker._private_tasks")
    await database.execute("delete from graphile_worker._private_job_queues")
    [listed] = (await inspection.list_jobs(database, JobFilter())).jobs
    assert (listed.job.id, listed.job.task_identifier, listed.job.queue_name) == (job.id, "", None)
    assert (listed.state, listed.is_available, listed.job.flags) == (JobState.READY, True, ("f",))
    assert await inspection.list_tasks(database) == []
    assert await inspection.list_queues(database) == []


async def test_counts_are_by_task_with_the_time_of_the_oldest(database: Database) -> None:
    first, _ = await Client(database).add_raw_jobs([("a", 1), ("a", 2)])
    await database.execute("insert into graphile_worker._private_tasks (identifier) values ('idle')")
    a, idle = await inspection.list_tasks(database)
    assert (a.identifier, a.counts.total, a.counts.ready) == ("a", 2, 2)
    assert a.oldest_ready_at == first.run_at
    assert (idle.identifier, idle.counts.total, idle.oldest_ready_at) == ("idle", 0, None)


async def test_what_a_dead_worker_held_is_given_back_with_the_attempts(database: Database) -> None:
    jobs = await Client(database).add_raw_jobs([("a", 1), ("a", 2), ("a", 3)])
    await database.execute(LOCK, "dead", [job.id for job in jobs[:2]])
    await database.execute(LOCK, "alive", [jobs[2].id])
    assert await recover_dead_worker(database, "dead") == 2
    assert await recover_dead_worker(database, "dead") == 0
    listed = (await inspection.list_jobs(database, JobFilter())).jobs
    assert [(one.job.attempts, one.job.locked_by) for one in listed] == [(0, None), (0, None), (1, "alive")]
    [holder] = await inspection.list_lock_holders(database)
    assert (holder.worker_id, holder.locked_jobs) == ("alive", 1)


@pytest.mark.parametrize(
    ("limit", "offset", "option"), [(0, 0, "limit"), (1, -1, "offset"), (10**6, 0, "limit")]
)
def test_pages_have_limits(limit: int, offset: int, option: str) -> None:
    with pytest.raises(OptionInvalid, match=option):
        JobFilter(limit=limit, offset=offset)
