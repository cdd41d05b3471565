"""Completing, failing and rescheduling jobs; unlocking the jobs of workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.client.five import Five
from tests.client.tasks import SOON, tick
from tests.client.workers import lock
from tests.support.announcements import hearing_announcements
from tests.support.tables import stored
from trio_graphile import Client, Database, JobSpec, OptionInvalid


async def test_jobs_are_completed_unless_they_run(client: Client, database: Database, five: Five) -> None:
    result = await client.complete_jobs(five.selected)
    assert [job.id for job in result.jobs] == sorted(five.changed)
    assert {job.task_identifier for job in result.jobs} == {"tick"}
    assert result.skipped_ids == (five.locked.id,)
    assert [job_id for job_id, _, _ in await stored(database)] == sorted([five.locked.id, five.untouched.id])


async def test_jobs_are_failed_for_good_unless_they_run(client: Client, five: Five) -> None:
    result = await client.permanently_fail_jobs([*five.selected, 10**9, 10**9], "out of stock")
    assert [job.id for job in result.jobs] == sorted(five.changed)
    assert result.skipped_ids == (five.locked.id, 10**9)
    assert {job.last_error for job in result.jobs} == {"out of stock"}
    assert [job.attempts for job in result.jobs] == [job.max_attempts for job in result.jobs]


async def test_a_reason_may_be_left_out_and_may_be_empty(client: Client) -> None:
    job = await client.add_job(tick, None)
    assert (await client.permanently_fail_jobs([job.id])).jobs[0].last_error == "Manually marked as failed"
    assert (await client.permanently_fail_jobs([job.id], "")).jobs[0].last_error == ""


async def test_jobs_are_rescheduled_unless_they_run(client: Client, five: Five) -> None:
    result = await client.reschedule_jobs(five.selected, run_at=SOON)
    assert [job.id for job in result.jobs] == sorted(five.changed)
    assert result.skipped_ids == (five.locked.id,)
    assert {job.run_at for job in result.jobs} == {SOON}
    failed = next(job for job in result.jobs if job.id == five.failed.id)
    assert (failed.last_error, failed.attempts, failed.max_attempts) == ("oh", 1, 1)


async def test_zero_is_a_value_when_rescheduling(client: Client) -> None:
    job = await client.add_job(tick, None, JobSpec(priority=7, max_attempts=3))
    await client.permanently_fail_jobs([job.id])
    (changed,) = (await client.reschedule_jobs([job.id], priority=0, attempts=0)).jobs
    assert (changed.priority, changed.attempts, changed.max_attempts) == (0, 0, 3)
    assert changed.run_at == job.run_at


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("run_at", {}),
        ("run_at", {"run_at": datetime(2100, 1, 1)}),  # noqa: DTZ001  # without a time zone
        ("priority", {"priority": 40_000}),
        ("priority", {"priority": True}),
        ("attempts", {"attempts": -1}),
        ("max_attempts", {"max_attempts": 0}),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    client: Client, option: str, changes: dict[str, int]
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        await client.reschedule_jobs([1], **changes)  # type: ignore[arg-type]
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("change", "announced"),
    [
        ({"run_at": datetime.now(UTC)}, [2]),
        ({"run_at": SOON}, []),
        ({"run_at": datetime.now(UTC), "max_attempts": 3, "attempts": 3}, []),
    ],
)
async def test_what_is_due_once_it_is_rescheduled_is_announced(
    client: Client, database: Database, change: dict[str, Any], announced: list[int]
) -> None:
    """Else only workers that poll would find it."""
    jobs = await client.add_jobs([(tick, None, JobSpec(run_at=SOON)), (tick, None, JobSpec(run_at=SOON))])
    async with hearing_announcements(database) as heard:
        assert len((await client.reschedule_jobs([job.id for job in jobs], **change)).jobs) == 2
    assert heard == announced


async def test_a_job_whose_worker_is_long_gone_runs_again_once_it_is_rescheduled(
    client: Client, database: Database
) -> None:
    job = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database, age="5 hours")
    (changed,) = (await client.reschedule_jobs([job.id], run_at=job.run_at)).jobs
    assert (changed.locked_at, changed.locked_by) == (None, None)
    assert [claimed.id for claimed in await lock(database, "another")] == [job.id]


async def test_force_unlocking_frees_the_jobs_and_queues_of_those_workers_alone(
    client: Client, database: Database
) -> None:
    for number in (1, 2, 3):
        await client.add_job(tick, None, JobSpec(queue_name=f"q{number}"))
        await lock(database, f"w{number}")
    await client.force_unlock_workers([])
    await client.force_unlock_workers(["w2", "w3", "unknown"])
    again = await lock(database, "another")
    assert [(job.queue_name, job.attempts) for job in again] == [("q2", 2), ("q3", 2)]


async def test_one_worker_id_is_not_many(client: Client) -> None:
    with pytest.raises(OptionInvalid, match="worker_ids"):
        await client.force_unlock_workers("w1")
