"""Cleaning up the tables."""

from __future__ import annotations

import pytest
import trio

from tests.client.five import Five
from tests.client.tasks import tick
from tests.client.workers import lock, silence
from tests.support.tables import stored
from trio_graphile import Cleanup, Client, Database, JobSpec, OptionInvalid, StatementFailed
from trio_graphile._database import held_rows, worker_registry
from trio_graphile._database.claiming import claims


async def names(database: Database, table: str, column: str) -> set[str]:
    rows = await database.fetch(f"select {column} as name from graphile_worker.{table}")
    return {row["name"] for row in rows}


async def test_cleaning_up_takes_only_empty_queues_unless_told(client: Client, database: Database) -> None:
    done = await client.add_raw_job("gone", None, JobSpec(queue_name="empty"))
    await client.add_raw_job("t", None, JobSpec(queue_name="used"))
    await client.add_raw_job("t")  # a job without a queue must not hide the empty ones
    await client.complete_jobs([done.id])
    assert await client.cleanup() == {Cleanup.GC_JOB_QUEUES: 1}
    assert await names(database, "_private_job_queues", "queue_name") == {"used"}
    assert await names(database, "_private_tasks", "identifier") == {"gone", "t"}


async def test_a_locked_queue_is_not_cleaned_up(client: Client, database: Database) -> None:
    job = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database)
    await database.execute("delete from graphile_worker._private_jobs where id = $1::bigint", job.id)
    assert await client.cleanup() == {Cleanup.GC_JOB_QUEUES: 0}


async def test_failed_jobs_are_cleaned_up_and_others_kept(
    client: Client, database: Database, five: Five
) -> None:
    await database.execute(
        "update graphile_worker._private_jobs set attempts = 30, max_attempts = 5 where id = $1::bigint",
        five.regular_1.id,
    )
    assert await client.cleanup([Cleanup.DELETE_PERMANENTLY_FAILED_JOBS]) == {
        Cleanup.DELETE_PERMANENTLY_FAILED_JOBS: 2
    }
    assert [job_id for job_id, _, _ in await stored(database)] == sorted(
        [five.locked.id, five.regular_2.id, five.untouched.id]
    )


async def test_unused_tasks_are_cleaned_up_but_for_ours_and_those_to_keep(
    client: Client, database: Database
) -> None:
    await held_rows.register_tasks(database, ["tick", "idle elsewhere", "forgotten"])
    await client.add_raw_job("used")
    before = await database.fetch_value(
        "select id from graphile_worker._private_tasks where identifier = 'tick'"
    )
    assert await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS], keep_tasks=["idle elsewhere"]) == {
        Cleanup.GC_TASK_IDENTIFIERS: 1
    }
    assert await names(database, "_private_tasks", "identifier") == {"tick", "idle elsewhere", "used"}
    after = await database.fetch_value(
        "select id from graphile_worker._private_tasks where identifier = 'tick'"
    )
    assert after == before


async def test_the_tasks_of_live_workers_are_kept(client: Client, database: Database) -> None:
    await held_rows.register_tasks(database, ["tick", "idle elsewhere", "of the dead"])
    await worker_registry.heartbeat(database, "alive", {"tasks": ["idle elsewhere"]})
    await worker_registry.heartbeat(database, "dead", {"tasks": ["of the dead"]})
    await silence(database, "dead", "6 minutes")
    assert await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS]) == {Cleanup.GC_TASK_IDENTIFIERS: 1}
    assert await names(database, "_private_tasks", "identifier") == {"tick", "idle elsewhere"}


async def test_cleaning_up_needs_no_registry_of_workers(client: Client, database: Database) -> None:
    await held_rows.register_tasks(database, ["gone"])
    await database.execute("drop table graphile_worker._private_workers")
    assert await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS]) == {Cleanup.GC_TASK_IDENTIFIERS: 1}


async def test_cleaning_up_leaves_alone_what_a_concurrent_add_refers_to(
    client: Client, database: Database
) -> None:
    await held_rows.register_tasks(database, ["adding"])
    await client.complete_jobs([(await client.add_raw_job("t", None, JobSpec(queue_name="adding"))).id])
    async with database.transaction() as connection:
        await client.using(connection).add_raw_job("adding", None, JobSpec(queue_name="adding"))
        counts = await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES], keep_tasks=["t"])
    assert set(counts.values()) == {0}
    (job,) = await claims.get_jobs(database, "w", ["adding"], 1)
    assert job.queue_name == "adding"


@pytest.mark.parametrize("what", [Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES])
async def test_cleaning_up_leaves_alone_what_adds_of_others_refer_to(
    client: Client, database: Database, what: Cleanup
) -> None:
    """Their functions insert missing names, be they none, and lock no row of those that are there."""
    await client.complete_jobs([(await client.add_raw_job("adding", None, JobSpec(queue_name="adding"))).id])
    async with database.transaction() as connection:
        await connection.execute("""
            insert into graphile_worker._private_tasks (identifier) select 'adding' where false;
            insert into graphile_worker._private_job_queues (queue_name) select 'adding' where false;
            insert into graphile_worker._private_jobs (task_id, job_queue_id)
            select tasks.id, queues.id
            from graphile_worker._private_tasks as tasks
            cross join graphile_worker._private_job_queues as queues;
        """)
        assert await client.cleanup([what]) == {what: 0}
    (job,) = await claims.get_jobs(database, "w", ["adding"], 1)
    assert job.queue_name == "adding"


@pytest.mark.parametrize("payloads", [[1], [1, 2]], ids=["one", "many"])
async def test_a_collector_of_another_program_sees_our_adds(
    client: Client, database: Database, payloads: list[int]
) -> None:
    """Theirs locks the table, as ours does, against whoever may insert a name."""
    await client.add_raw_job("a")
    async with database.transaction() as connection:
        await client.using(connection).add_raw_jobs([("a", payload) for payload in payloads])
        with pytest.raises(StatementFailed) as caught:
            await database.execute("""
                begin;
                lock table graphile_worker._private_tasks in share row exclusive mode nowait;
            """)
    assert caught.value.sqlstate == "55P03"


DANGLING = """
    select count(*)
    from graphile_worker._private_jobs as jobs
    left join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
    left join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
    where tasks.id is null
      or (jobs.job_queue_id is not null and queues.id is null)
"""


async def test_no_job_is_left_without_its_task_or_queue_by_cleaning_up_meanwhile(
    client: Client, database: Database
) -> None:
    finished = trio.Event()

    async def add() -> None:
        for number in range(100):
            name = f"{number % 3}" if number % 10 else "kept"
            job = await client.add_raw_job(name, None, JobSpec(queue_name=name))
            if number % 10:
                await client.complete_jobs([job.id])
        finished.set()

    async def collect() -> int:
        return sum((await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES])).values())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add)
        collected = 0
        while not finished.is_set():
            collected += await collect()
    assert collected + await collect() > 0
    assert await database.fetch_value(DANGLING) == 0
    assert len(await stored(database)) == 10


async def test_cleanup_knows_its_tasks_by_name_too(client: Client) -> None:
    assert await client.cleanup(["gc_job_queues"]) == {Cleanup.GC_JOB_QUEUES: 0}  # type: ignore[list-item]
    with pytest.raises(OptionInvalid, match="there is no 'everything' to delete; there are delete_perm"):
        await client.cleanup(["everything"])  # type: ignore[list-item]
    with pytest.raises(OptionInvalid, match="did you mean gc_job_queues"):
        await client.cleanup(["job_queues"])  # type: ignore[list-item]
