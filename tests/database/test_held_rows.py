"""Claiming, completing, failing, returning: the statements of a worker, on a real table."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
import trio

from tests.database.functions.calls import add_job
from tests.support.tables import locked_queues
from trio_graphile._database import held_rows
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.memory import PlainClaim
from trio_graphile._database.database import Database
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._model.bounds import FlagRules
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Failed, Returned

ME = "me"
ALL = ("a", "b")


async def add(database: Database, identifier: str = "a", **options: object) -> int:
    """Add a job as SQL callers do."""
    return int((await add_job(database, identifier, **options))["id"])


async def claim(database: Database, limit: int = 10, worker: str = ME, **options: object) -> list[Job]:
    return await claims.get_jobs(database, worker, ALL, limit, **options)  # type: ignore[arg-type]


async def row(database: Database, job_id: int) -> dict[str, object]:
    found = await database.fetch_row(
        "select * from graphile_worker._private_jobs where id = $1::bigint", job_id
    )
    assert found is not None
    return dict(found)


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
    jobs = await claim(database, flags=FlagRules(("a",)))
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


async def test_registering_known_tasks_burns_no_ids(database: Database) -> None:
    for _ in range(3):
        await held_rows.register_tasks(database, ALL)
    last = await database.fetch_value("select last_value from graphile_worker.tasks_id_seq")
    assert last == len(ALL)


async def test_completing_deletes_the_job_and_frees_its_queue(database: Database) -> None:
    await add(database, queue_name="q")
    [job] = await claim(database)
    assert await held_rows.complete_jobs(database, ME, [job]) == {job.id}
    assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 0
    assert await locked_queues(database) == {}


@pytest.mark.parametrize("retried", [set(), {1}, {0, 1, 2}], ids=["none", "one", "all"])
async def test_jobs_are_completed_together_however_often_they_were_tried(
    database: Database, retried: set[int]
) -> None:
    ids = [await add(database) for _ in range(3)]
    for number in retried:
        await database.execute(
            "update graphile_worker._private_jobs set attempts = 4 where id = $1::bigint", ids[number]
        )
    jobs = await claim(database)
    assert [job.attempts for job in jobs] == [5 if number in retried else 1 for number in range(3)]
    assert await held_rows.complete_jobs(database, ME, jobs) == set(ids)
    assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 0


async def test_a_queue_is_freed_whatever_is_completed_with_its_job(database: Database) -> None:
    each: tuple[dict[str, Any], ...] = ({}, {"queue_name": "q"}, {"job_key": "k"}, {})
    for arguments in each:
        await add(database, **arguments)
    jobs = await claim(database)
    assert await held_rows.complete_jobs(database, ME, jobs) == {job.id for job in jobs}
    assert await locked_queues(database) == {}


@pytest.mark.parametrize(
    "takeover",
    [
        "update graphile_worker._private_jobs set locked_by = 'other'",
        "update graphile_worker._private_jobs set attempts = attempts + 1",
        "update graphile_worker._private_jobs set locked_by = null, locked_at = null",
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"queue_name": "q"}, {"job_key": "k"}], ids=str)
async def test_a_job_that_was_taken_from_us_is_not_touched(
    database: Database, takeover: str, arguments: dict[str, Any]
) -> None:
    await add(database, **arguments)
    await add(database)
    [job, still_ours] = await claim(database)
    await database.execute(f"{takeover} where id = $1::bigint", job.id)
    before = await row(database, job.id)
    assert await held_rows.complete_jobs(database, ME, [job, still_ours]) == {still_ours.id}
    assert await held_rows.fail_jobs(database, ME, [Failed(job, "no")]) == set()
    assert await held_rows.return_jobs(database, ME, [Returned(job)]) == set()
    assert await row(database, job.id) == before


@pytest.mark.parametrize("attempts", [1, 2, 5, 9, 10, 11, 25])
async def test_a_failure_waits_exponentially_longer_up_to_six_hours(
    database: Database, attempts: int
) -> None:
    await add(database)
    await database.execute(
        "update graphile_worker._private_jobs set attempts = $1::smallint, max_attempts = 30", attempts - 1
    )
    [job] = await claim(database)
    assert await held_rows.fail_jobs(database, ME, [Failed(job, "ValueError: no")]) == {job.id}
    stored = await database.fetch_row("""
        select extract(epoch from run_at - now())::float8 as delay, attempts, last_error, locked_by, locked_at
        from graphile_worker._private_jobs
    """)
    assert stored is not None
    assert stored["delay"] == pytest.approx(math.exp(min(attempts, 10)), abs=1.0)
    assert (stored["attempts"], stored["last_error"]) == (attempts, "ValueError: no")
    assert (stored["locked_by"], stored["locked_at"]) == (None, None)


async def test_a_failure_backs_off_from_a_time_in_the_future(database: Database) -> None:
    await add(database)
    [job] = await claim(database)
    await database.execute("update graphile_worker._private_jobs set run_at = now() + interval '1 hour'")
    later = (await row(database, job.id))["run_at"]
    await held_rows.fail_jobs(database, ME, [Failed(job, "no")])
    assert (await row(database, job.id))["run_at"] == later + timedelta(seconds=math.e)  # type: ignore[operator]


async def test_a_returned_job_is_as_if_never_claimed(database: Database) -> None:
    job_id = await add(database, queue_name="q")
    before = await row(database, job_id)
    [job] = await claim(database)
    assert await held_rows.return_jobs(database, ME, [Returned(job)]) == {job_id}
    assert await row(database, job_id) == before
    assert await locked_queues(database) == {}


@pytest.mark.parametrize("way", ["return", "reconcile"])
async def test_returning_a_job_that_was_replaced_does_not_revive_it(database: Database, way: str) -> None:
    old = await add(database, job_key="k", payload="1")
    [job] = await claim(database)
    new = await add(database, job_key="k", payload="2")
    assert new != old
    if way == "reconcile":
        assert await held_rows.reconcile(database, ME, []) == {old}
    else:
        assert await held_rows.return_jobs(database, ME, [Returned(job)]) == {old}
    stored = await row(database, old)
    assert (stored["attempts"], stored["locked_by"], stored["is_available"]) == (25, None, False)
    assert [job.id for job in await claim(database)] == [new]


async def test_a_detached_job_is_still_ours_to_complete_and_to_fail(database: Database) -> None:
    for number in range(2):
        await add(database, job_key=f"k{number}", queue_name=f"q{number}")
    one, two = await claim(database)
    for number in range(2):
        await database.execute("select graphile_worker.remove_job($1::text)", f"k{number}")
    assert await held_rows.complete_jobs(database, ME, [one]) == {one.id}
    assert await held_rows.fail_jobs(database, ME, [Failed(two, "no")]) == {two.id}
    assert await locked_queues(database) == {}
    assert (await row(database, two.id))["is_available"] is False


async def test_reconciling_gives_back_what_we_do_not_know_of_and_nothing_else(database: Database) -> None:
    for number in range(4):
        await add(database, queue_name=f"q{number}", max_attempts=1)
    known, *lost = await claim(database, 3)
    await claim(database, worker="other")
    assert await held_rows.reconcile(database, ME, [known]) == {job.id for job in lost}
    for job in lost:
        stored = await row(database, job.id)
        assert (stored["attempts"], stored["locked_by"], stored["is_available"]) == (0, None, True)
    assert (await row(database, known.id))["locked_by"] == ME
    assert await locked_queues(database) == {known.queue_name: ME, "q3": "other"}


async def test_reconciling_gives_the_attempt_back_though_the_key_was_deduplicated_meanwhile(
    database: Database,
) -> None:
    job_id = await add(database, job_key="k", max_attempts=1)
    await claim(database)
    assert await add(database, job_key="k", job_key_mode="unsafe_dedupe") == job_id
    assert await held_rows.reconcile(database, ME, []) == {job_id}
    assert (await row(database, job_id))["attempts"] == 0


async def test_reconciling_gives_back_a_claim_that_came_after_the_one_we_know_of(database: Database) -> None:
    """The first's failure was recorded, its answer lost, the job due again, and the second's answer lost."""
    job_id = await add(database)
    [known] = await claim(database)
    await held_rows.fail_jobs(database, ME, [Failed(known, "no")])
    await database.execute("update graphile_worker._private_jobs set run_at = now()")
    await claim(database)
    assert await held_rows.reconcile(database, ME, [known]) == {job_id}
    assert (await row(database, job_id))["attempts"] == 1
