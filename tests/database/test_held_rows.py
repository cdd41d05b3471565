"""Completing, failing, returning: the statements of a worker about rows that it holds, on a real table."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.database.jobs_by_sql import ALL, ME, add, claim, row
from tests.database.sessions import wait_until_somebody_waits
from tests.support.tables import locked_queues
from trio_graphile._database import held_rows, unknown_locks
from trio_graphile._database.database import Database
from trio_graphile._database.notifications import JOBS_INSERT, announced_jobs
from trio_graphile._model.outcomes import Failed, Returned


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
async def test_jobs_that_are_given_back_are_announced_together_if_they_are_due(
    database: Database, way: str
) -> None:
    """Else nobody would know of them before they poll."""
    for options in ({}, {}, {"job_key": "k"}, {"priority": 1}):
        await add(database, **options)
    jobs = await claim(database)
    await add(database, job_key="k", run_at=datetime.now(UTC) + timedelta(hours=1))  # replaces one that runs
    later = "update graphile_worker._private_jobs set run_at = now() + interval '1 hour' where priority = 1"
    await database.execute(later)
    send, heard = trio.open_memory_channel[str](10)
    async with database.connection() as session:
        await session.listen(JOBS_INSERT, send.send_nowait)
        if way == "return":
            await held_rows.return_jobs(database, ME, [Returned(job) for job in jobs])
        else:
            await unknown_locks.reconcile(database, ME, [])
        await session.fetch_value("select 1")  # by when all is heard that was said before
    assert [announced_jobs(heard.receive_nowait())] == [2]
    assert heard.statistics().current_buffer_used == 0


@pytest.mark.parametrize(("later", "expected"), [(0, [1]), (1, [])])
async def test_a_queue_that_we_know_nothing_of_is_announced_if_its_next_job_is_due(
    database: Database, later: int, expected: list[int]
) -> None:
    await add(database, queue_name="q")
    [job] = await claim(database)
    await add(database, queue_name="q", run_at=datetime.now(UTC) + timedelta(hours=later))
    await database.execute("delete from graphile_worker._private_jobs where id = $1::bigint", job.id)
    send, heard = trio.open_memory_channel[str](10)
    async with database.connection() as session:
        await session.listen(JOBS_INSERT, send.send_nowait)
        assert await unknown_locks.reconcile(database, ME, []) == set()
        await session.fetch_value("select 1")  # by when all is heard that was said before
    send.close()
    assert [announced_jobs(payload) async for payload in heard] == expected
    assert await locked_queues(database) == {}


@pytest.mark.parametrize("way", ["return", "reconcile"])
async def test_returning_a_job_that_was_replaced_does_not_revive_it(database: Database, way: str) -> None:
    old = await add(database, job_key="k", payload="1")
    [job] = await claim(database)
    new = await add(database, job_key="k", payload="2")
    assert new != old
    if way == "reconcile":
        assert await unknown_locks.reconcile(database, ME, []) == {old}
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
    assert await unknown_locks.reconcile(database, ME, [known]) == {job.id for job in lost}
    for job in lost:
        stored = await row(database, job.id)
        assert (stored["attempts"], stored["locked_by"], stored["is_available"]) == (0, None, True)
    assert (await row(database, known.id))["locked_by"] == ME
    assert await locked_queues(database) == {known.queue_name: ME, "q3": "other"}


async def test_reconciling_frees_a_queue_of_which_somebody_gives_back_the_job_meanwhile(
    database: Database,
) -> None:
    job_id = await add(database, queue_name="q")
    await claim(database)
    locked_at = (await row(database, job_id))["locked_at"]
    async with trio.open_nursery() as nursery, database.transaction() as connection:
        # As by a look that is ended before it frees the queue:
        is_fenced = False
        await connection.fetch(unknown_locks.RETURN_UNKNOWN_JOBS, ME, [job_id], [locked_at], is_fenced)
        nursery.start_soon(unknown_locks.reconcile, database, ME, [])
        await wait_until_somebody_waits(database)
    assert await locked_queues(database) == {}


@pytest.mark.parametrize("table", ["_private_jobs", "_private_job_queues"])
async def test_reconciling_frees_what_a_renewal_locks_anew_meanwhile(database: Database, table: str) -> None:
    job_id = await add(database, queue_name="q")
    await claim(database)
    async with trio.open_nursery() as nursery, database.transaction() as connection:
        await connection.execute(f"update graphile_worker.{table} set locked_at = clock_timestamp()")
        nursery.start_soon(unknown_locks.reconcile, database, ME, [])
        await wait_until_somebody_waits(database)
    assert (await row(database, job_id))["locked_by"] is None
    assert await locked_queues(database) == {}


async def test_to_give_back_what_was_unknown_too_late_changes_nothing(database: Database) -> None:
    """As by a statement that was given up with its session, and is carried out all the same."""
    job_id = await add(database, queue_name="q")
    await claim(database)
    found = await unknown_locks.find_unknown(database, ME, [])
    assert await unknown_locks.reconcile(database, ME, []) == {job_id}
    await claim(database)
    before = await row(database, job_id)
    [(_, locked_at)] = found.jobs
    queue_id = await database.fetch_value("select id from graphile_worker._private_job_queues")
    late = unknown_locks.UnknownLocks(found.jobs, [(queue_id, locked_at)])
    await unknown_locks.return_unknown(database, ME, [], late)
    assert await row(database, job_id) == before
    assert await locked_queues(database) == {"q": ME}


async def test_reconciling_gives_the_attempt_back_though_the_key_was_deduplicated_meanwhile(
    database: Database,
) -> None:
    job_id = await add(database, job_key="k", max_attempts=1)
    await claim(database)
    assert await add(database, job_key="k", job_key_mode="unsafe_dedupe") == job_id
    assert await unknown_locks.reconcile(database, ME, []) == {job_id}
    assert (await row(database, job_id))["attempts"] == 0


async def test_reconciling_gives_back_a_claim_that_came_after_the_one_we_know_of(database: Database) -> None:
    """The first's failure was recorded, its answer lost, the job due again, and the second's answer lost."""
    job_id = await add(database)
    [known] = await claim(database)
    await held_rows.fail_jobs(database, ME, [Failed(known, "no")])
    await database.execute("update graphile_worker._private_jobs set run_at = now()")
    await claim(database)
    assert await unknown_locks.reconcile(database, ME, [known]) == {job_id}
    assert (await row(database, job_id))["attempts"] == 1
