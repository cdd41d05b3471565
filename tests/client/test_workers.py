"""Listing workers, and sweeping those that died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.client.tasks import tick
from tests.client.workers import lock, silence
from tests.support.announcements import hearing_announcements
from trio_graphile import Client, Database, JobSpec, OptionInvalid, SweepReport
from trio_graphile._database import stale_locks, worker_registry
from trio_graphile._model.recovery import ResetReport


async def test_registered_workers_are_listed_and_the_stale_marked(client: Client, database: Database) -> None:
    assert await client.list_active_workers() == []
    await worker_registry.heartbeat(database, "stale", {"pid": 1})
    await worker_registry.heartbeat(database, "fresh")
    await silence(database, "stale", "301 seconds")
    fresh, stale = await client.list_active_workers()
    assert (fresh.worker_id, fresh.metadata, fresh.is_stale) == ("fresh", None, False)
    assert (stale.worker_id, stale.metadata, stale.is_stale) == ("stale", {"pid": 1}, True)
    assert not (await client.list_active_workers(310))[1].is_stale
    async with database.transaction() as connection:
        await worker_registry.deregister(connection, "stale")
        assert await client.using(connection).list_active_workers() == [fresh]


DEAD = "trio_graphile_dead"
NOT_DUE = "update graphile_worker._private_jobs set run_at = now() + interval '1 hour' where id = $1::bigint"


async def test_the_jobs_of_the_dead_are_given_back(client: Client, database: Database) -> None:
    job = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database, DEAD, age="1 hour")
    await worker_registry.heartbeat(database, DEAD)
    assert await client.sweep_stale_workers() == SweepReport()
    await silence(database, DEAD, "2 minutes")
    assert await client.sweep_stale_workers() == SweepReport()
    found = await client.sweep_stale_workers(60, dry_run=True)
    assert found == SweepReport(worker_ids=(DEAD,), dry_run=True)
    assert await client.sweep_stale_workers(60, 0) == SweepReport(worker_ids=(DEAD,), recovered_jobs=1)
    assert await client.list_active_workers() == []
    assert [again.id for again in await lock(database, "another")] == [job.id]


@pytest.mark.parametrize(("delay", "announced"), [(0.0, [2]), (30.0, [])])
async def test_what_is_given_back_is_announced_if_it_is_due(
    client: Client, database: Database, delay: float, announced: list[int]
) -> None:
    """Else only workers that poll would find it."""
    await client.add_jobs([(tick, None), (tick, None)])
    await lock(database, DEAD, age="1 hour")
    async with hearing_announcements(database) as heard:
        assert (await client.sweep_stale_workers(60, delay, orphan_threshold=60)).recovered_jobs == 2
    assert heard == announced


@pytest.mark.parametrize(("next_in", "announced"), [(timedelta(), [1]), (timedelta(hours=1), [])])
@pytest.mark.parametrize("way", ["sweep", "force", "stale"])
async def test_a_queue_that_is_freed_is_announced_if_its_next_job_is_due(
    client: Client, database: Database, way: str, next_in: timedelta, announced: list[int]
) -> None:
    """Though the job that held it is not, as after a failure."""
    first = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database, DEAD, age="5 hours")
    await database.execute(NOT_DUE, first.id)
    await client.add_job(tick, None, JobSpec(queue_name="q", run_at=datetime.now(UTC) + next_in))
    async with hearing_announcements(database) as heard:
        match way:
            case "sweep":
                await client.sweep_stale_workers(60, 30, orphan_threshold=60)
            case "force":
                await client.force_unlock_workers([DEAD])
            case _:
                assert await stale_locks.reset_stale_locks(database) == ResetReport(jobs=1, queues=1)
    assert heard == announced


@pytest.mark.parametrize("way", ["force", "stale"])
async def test_jobs_that_are_unlocked_are_announced(client: Client, database: Database, way: str) -> None:
    await client.add_jobs([(tick, None), (tick, None)])
    await lock(database, DEAD, age="5 hours")
    async with hearing_announcements(database) as heard:
        if way == "force":
            await client.force_unlock_workers(["unknown"])
            await client.force_unlock_workers([DEAD])
        else:
            await stale_locks.reset_stale_locks(database)
    assert heard == [2]
    assert len(await lock(database, "another")) == 2


async def test_a_sweep_can_be_told_more(client: Client, database: Database) -> None:
    await client.add_job(tick, None, JobSpec(flags=["patient"]))
    await lock(database, DEAD)
    await worker_registry.heartbeat(database, DEAD)
    await silence(database, DEAD, "2 minutes")
    patient = {"threshold": 60.0, "resilient_flags": ["patient"]}
    assert (await client.sweep_stale_workers(**patient)).worker_ids == ()  # type: ignore[arg-type]
    report = await client.sweep_stale_workers(**patient, resilient_multiplier=1.5)  # type: ignore[arg-type]
    assert report.recovered_jobs == 1
    await client.add_job(tick, None)
    await lock(database, "pool-of-node", age="10 minutes")
    assert (await client.sweep_stale_workers()).worker_ids == ()
    assert (await client.sweep_stale_workers(orphan_threshold=500)).worker_ids == ("pool-of-node",)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("sweep_threshold", {"threshold": 0}),
        ("sweep_threshold", {"threshold": 300_000}),
        ("recovery_delay", {"recovery_delay": -1}),
        ("orphan_threshold", {"threshold": 60, "orphan_threshold": 59}),
        ("resilient_flags", {"resilient_flags": "patient"}),
        ("resilient_multiplier", {"resilient_multiplier": 0}),
    ],
)
async def test_a_sweep_that_cannot_be_meant_is_refused(
    client: Client, option: str, given: dict[str, float]
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        await client.sweep_stale_workers(**given)  # type: ignore[arg-type]
    assert caught.value.option == option
