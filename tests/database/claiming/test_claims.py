"""What the whole claim takes, on a real table, and what it does to it."""

from __future__ import annotations

from datetime import timedelta

import trio

from tests.database.jobs_by_sql import ALL, ME, add, claim, row
from tests.support.tables import locked_queues
from trio_graphile._database import held_rows
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.memory import PlainClaim
from trio_graphile._database.database import Database
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.jobs import Job


async def test_a_claimed_job_has_everything_and_its_row_is_locked(database: Database) -> None:
    job_id = await add(
        database,
        payload='{"b": 1,  "a": 2}',
        queue_name="q",
        job_key="k",
        priority=-3,
        max_attempts=4,
        flags=["x", "y"],
    )
    [job] = await claim(database)
    assert (job.id, job.task_identifier, job.queue_name) == (job_id, "a", "q")
    assert job.payload_json == '{"b": 1,  "a": 2}'  # to the byte
    assert (job.priority, job.attempts, job.max_attempts, job.key) == (-3, 1, 4, "k")
    assert sorted(job.flags) == ["x", "y"]
    assert job.locked_by == ME
    assert job.locked_at is not None
    stored = await row(database, job_id)
    assert (stored["attempts"], stored["locked_by"], stored["is_available"]) == (1, ME, False)
    assert stored["updated_at"] == job.created_at  # claiming leaves it alone: reconciling depends on it
    assert await locked_queues(database) == {"q": ME}


async def test_jobs_come_by_priority_then_time(database: Database) -> None:
    now = await database.fetch_value("select now()")
    late = await add(database, run_at=now - timedelta(minutes=1))
    early = await add(database, run_at=now - timedelta(minutes=2))
    urgent = await add(database, priority=-1)
    lazy = await add(database, priority=1, run_at=now - timedelta(hours=1))
    assert [job.id for job in await claim(database)] == [urgent, early, late, lazy]


async def test_a_limit_takes_the_best_across_queues_and_none(database: Database) -> None:
    ids = [await add(database, priority=n, **({"queue_name": f"q{n}"} if n % 2 else {})) for n in range(6)]
    assert [job.id for job in await claim(database, 3)] == ids[:3]
    assert [job.id for job in await claim(database, 10)] == ids[3:]


async def test_what_is_not_due_not_ours_dead_or_locked_is_left(database: Database) -> None:
    now = await database.fetch_value("select now()")
    await add(database, run_at=now + timedelta(hours=1))
    await add(database, "foreign")
    dead = await add(database)
    await database.execute("select graphile_worker.permanently_fail_jobs(array[$1::bigint])", dead)
    await add(database)
    assert len(await claim(database, worker="other")) == 1
    assert await claim(database) == []


async def test_one_batch_has_at_most_one_job_of_a_queue_the_first(database: Database) -> None:
    first = await add(database, queue_name="q")
    second = await add(database, queue_name="q")
    await add(database, queue_name="q", priority=5)
    free = await add(database)
    assert {job.id for job in await claim(database)} == {first, free}
    assert await claim(database) == []
    [job] = [job for job in await queue_jobs(database) if job.id == first]
    await held_rows.complete_jobs(database, ME, [job])
    assert [job.id for job in await claim(database)] == [second]


async def queue_jobs(database: Database) -> list[Job]:
    """The jobs that we hold, as they were claimed."""
    rows = await database.fetch(f"""
        select {job_columns()}
        from {jobs_with_names("graphile_worker._private_jobs").replace("{schema}", "graphile_worker")}
        where jobs.locked_by = 'me'
    """)
    return [job_from_row(row) for row in rows]


async def test_a_locked_queue_is_left_whoever_locked_it(database: Database) -> None:
    await add(database, queue_name="q")
    await database.execute("""
        update graphile_worker._private_job_queues
        set locked_by = 'a worker in Node', locked_at = now()
    """)
    assert await claim(database) == []


async def test_forbidden_flags_exclude_by_key_whatever_the_value(database: Database) -> None:
    plain = await add(database)
    allowed = await add(database, flags=["c"])
    await add(database, flags=["a", "b"])
    queued = await add(database, flags=["a"], queue_name="q")
    falsy = await add(database)
    await database.execute(
        """update graphile_worker._private_jobs set flags = '{"a": false}' where id = $1::bigint""", falsy
    )
    jobs = await claim(database, rules=ClaimRules(forbidden_flags=["a"]))
    assert {job.id for job in jobs} == {plain, allowed}
    assert queued in {job.id for job in await claim(database)}


async def test_concurrent_claims_share_neither_a_job_nor_a_queue(database: Database) -> None:
    for number in range(60):
        await add(database, **({"queue_name": f"q{number % 5}"} if number % 2 else {}))
    claimed: list[Job] = []

    async def claimer(name: str) -> None:
        async with database.connection() as connection:
            for _ in range(8):
                claimed.extend(await claims.get_jobs(connection, name, ALL, 5))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(claimer, f"worker {number}")
    ids = [job.id for job in claimed]
    queued = [job.queue_name for job in claimed if job.queue_name is not None]
    assert len(ids) == len(set(ids))
    assert len(queued) == len(set(queued))
    assert len(claimed) == 30 + 5


async def test_a_task_whose_row_was_collected_and_came_back_is_found(database: Database) -> None:
    await held_rows.register_tasks(database, ALL)
    await database.execute("delete from graphile_worker._private_tasks")
    job_id = await add(database)
    assert [job.id for job in await claim(database)] == [job_id]


async def test_a_job_is_of_its_own_task_whichever_of_ours_have_rows(database: Database) -> None:
    for identifier in ("b", "foreign", "a"):
        await add(database, identifier)
    tasks = ["new", "a", "newer", "b", "newest"]
    one = await claims.get_jobs(database, ME, tasks, 1)
    rest = await plain_claims.get_plain_jobs(database, ME, tasks, 10, which=PlainClaim.IN_HEAD)
    assert [job.task_identifier for job in one + rest] == ["b", "a"]
