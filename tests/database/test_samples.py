"""The table of samples: one row a minute whoever comes, and what is read back from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from trio_graphile import Client, Database, JobSpec
from trio_graphile._database import worker_registry
from trio_graphile._database.samples import count_changes, read_samples, take_sample
from trio_graphile._model.samples import Sample, TaskRuns

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
AGE = """
    update graphile_worker.trio_graphile_samples
    set minute = minute - $1::interval
"""
CENTURY = timedelta(days=36525)


async def grow_older(database: Database, age: timedelta = timedelta(minutes=1)) -> None:
    for step in (CENTURY, age - CENTURY):  # else rows would meet on their way
        await database.execute(AGE, step)


async def sampled(database: Database) -> Sample:
    """Take a sample as if the last one were a minute old."""
    await grow_older(database)
    sample = await take_sample(database)
    assert sample is not None
    return sample


def said(runs: int, seconds: float) -> object:
    return {
        "statistics": {
            "busy": 1,
            "held": 2,
            "tasks": {"a": {"runs": runs, "run_seconds": seconds, "run_max": seconds}},
        }
    }


async def test_a_sample_has_what_is_there(database: Database) -> None:
    client = Client(database)
    later = datetime.now(UTC) + timedelta(hours=1)
    await client.add_raw_jobs(
        [("a", None)] * 3 + [("a", None, JobSpec(run_at=later))] * 2 + [("b", None, JobSpec(max_attempts=1))]
    )
    await database.execute("""
        update graphile_worker._private_jobs
        set attempts = max_attempts
        where max_attempts = 1
    """)
    await database.execute("""
        update graphile_worker._private_jobs
        set locked_at = now(), locked_by = 'w'
        where id = (select min(id) from graphile_worker._private_jobs)
    """)
    sample = await take_sample(database)
    assert sample is not None
    assert (sample.ready, sample.scheduled, sample.locked, sample.failed) == (2, 2, 1, 1)
    assert sample.estimated == ()
    assert sample.oldest_ready is not None
    assert 0 <= sample.oldest_ready < 60
    assert sample.tasks is None  # since when is not known
    assert await read_samples(database, LONG_AGO) == [sample]
    assert await read_samples(database, sample.at + timedelta(seconds=1)) == []


async def test_one_of_many_writes_the_sample_of_a_minute(database: Database) -> None:
    taken: list[Sample | None] = []

    async def take() -> None:
        taken.append(await take_sample(database))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(take)
    minutes = {sample.at for sample in taken if sample is not None}
    assert 1 <= len(minutes) <= 2  # a minute may have passed
    assert len(taken) - taken.count(None) == len(minutes)


async def test_runs_are_what_came_since_the_sample_before_whoever_came_and_went(database: Database) -> None:
    await worker_registry.heartbeat(database, "stays", said(10, 5.0))
    await worker_registry.heartbeat(database, "goes", said(90, 5.0))
    await worker_registry.heartbeat(database, "foreign")
    await sampled(database)
    await worker_registry.heartbeat(database, "stays", said(12, 6.0))
    await worker_registry.deregister(database, "goes")
    await worker_registry.heartbeat(database, "comes", said(1, 4.0))
    sample = await sampled(database)
    assert sample.tasks is not None
    assert {name: (runs.runs, runs.run_seconds) for name, runs in sample.tasks.items()} == {"a": (3, 5.0)}
    assert (await read_samples(database, LONG_AGO))[-1] == sample
    sample = await sampled(database)
    assert sample.tasks == {}
    rows = await database.fetch("""
        select totals is null as is_forgotten
        from graphile_worker.trio_graphile_samples
        order by minute
    """)
    assert [row["is_forgotten"] for row in rows] == [True, True, False]


@pytest.mark.parametrize(
    "stored", ["[]", "1", '{"w": 1}', '{"w": {"a": [1]}}', '{"w": {"a": {"runs": "x"}}}']
)
async def test_totals_that_somebody_else_wrote_are_none(database: Database, stored: str) -> None:
    await sampled(database)
    await database.execute(
        "update graphile_worker.trio_graphile_samples set totals = $1::text::jsonb", stored
    )
    await worker_registry.heartbeat(database, "w", said(1, 4.0))
    sample = await sampled(database)
    assert sample.tasks == {"a": TaskRuns(runs=1, run_seconds=4.0, run_max=4.0)}


async def test_whoever_does_not_come_to_the_end_leaves_a_gap(database: Database) -> None:
    first = await sampled(database)
    await grow_older(database)
    await database.execute("""
        insert into graphile_worker.trio_graphile_samples (minute)
        values (date_trunc('minute', now()))
    """)
    second = await sampled(database)
    found = await read_samples(database, LONG_AGO)
    assert len(found) == 2
    assert (found[0].ready, found[1]) == (first.ready, second)
    assert found[1].at - found[0].at >= timedelta(minutes=2)


async def test_samples_older_than_a_week_are_deleted(database: Database) -> None:
    await sampled(database)
    await grow_older(database, timedelta(days=6, hours=23))
    await sampled(database)
    assert len(await read_samples(database, LONG_AGO)) == 2
    await grow_older(database, timedelta(hours=2))
    await sampled(database)
    assert len(await read_samples(database, LONG_AGO)) == 2


async def test_jobs_that_come_and_go_are_counted(database: Database) -> None:
    """The server's sessions report that now and then, so there is some waiting."""
    await Client(database).add_raw_jobs([("a", None)] * 3)
    await database.execute("delete from graphile_worker._private_jobs")
    with trio.fail_after(20):
        while await count_changes(database) != (3, 3):  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()


async def test_locked_jobs_of_workers_that_tell_are_known_among_many(database: Database) -> None:
    await database.execute("insert into graphile_worker._private_tasks (identifier) values ('a')")
    await database.execute("""
        insert into graphile_worker._private_jobs (task_id)
        select tasks.id
        from graphile_worker._private_tasks as tasks, generate_series(1, 10001)
    """)
    await worker_registry.heartbeat(database, "w", said(1, 1.0))
    await worker_registry.heartbeat(database, "x", said(1, 1.0))
    sample = await sampled(database)
    assert sample.locked == 6
    assert "locked" in sample.estimated
