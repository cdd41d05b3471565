"""complete_jobs, permanently_fail_jobs and reschedule_jobs."""

from __future__ import annotations

import pytest

from tests.database.functions.calls import Row, add_job, call, jobs
from tests.database.functions.states import (
    LATER,
    differences,
    exhaust,
    lock,
)
from tests.database.sessions import heard
from tests.support.tables import locked_queues
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed

CHANGES = ["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"]


@pytest.mark.parametrize("function", CHANGES)
async def test_a_change_takes_what_nobody_runs_and_frees_the_queues_of_stale_locks(
    database: Database, function: str
) -> None:
    free, dead, running, stuck, other = [await add_job(database, queue_name=f"q{n}") for n in range(5)]
    await exhaust(database, dead["id"])
    await lock(database, running["id"])
    await lock(database, stuck["id"], age="4 hours 1 second")
    await lock(database, other["id"], age="3 hours 59 minutes")
    async with heard(database, "jobs:insert") as payloads:
        ids = [free["id"], dead["id"], running["id"], stuck["id"], free["id"], 999]
        changed = await call(database, function, [*ids, None])
    assert payloads == []
    assert sorted(row["id"] for row in changed) == [free["id"], dead["id"], stuck["id"]]
    assert await locked_queues(database) == {"q2": "w", "q4": "w"}
    left = {row["id"]: row for row in await jobs(database)}
    assert left[running["id"]]["locked_by"] == left[other["id"]]["locked_by"] == "w"
    if function == "complete_jobs":
        assert set(left) == {running["id"], other["id"]}
    else:
        assert (left[stuck["id"]]["locked_at"], left[stuck["id"]]["locked_by"]) == (None, None)


@pytest.mark.parametrize("function", CHANGES)
async def test_a_queue_that_was_claimed_since_stays_locked(database: Database, function: str) -> None:
    """The lock of the job is a leftover, that of its queue belongs to a job that runs."""
    job = await add_job(database, queue_name="q")
    await lock(database, job["id"], age="5 hours")
    await database.execute("update graphile_worker._private_job_queues set locked_at = now()")
    await call(database, function, [job["id"]])
    assert await locked_queues(database) == {"q": "w"}
    await database.execute("""
        update graphile_worker._private_job_queues
        set locked_at = now() - interval '5 hours', locked_by = 'x'
    """)
    await call(database, function, [job["id"]])
    assert await locked_queues(database) == {"q": "x"}


@pytest.mark.parametrize("function", CHANGES)
@pytest.mark.parametrize("ids", [None, [], [None]], ids=["null", "none", "a null"])
async def test_a_change_of_nothing_changes_nothing(
    database: Database, function: str, ids: list[None] | None
) -> None:
    await add_job(database)
    before = await jobs(database)
    assert await call(database, function, ids) == []
    assert await jobs(database) == before


async def test_completing_returns_what_it_deleted(database: Database) -> None:
    job = await add_job(database, payload="[1]")
    assert await call(database, "complete_jobs", [job["id"]]) == [job]
    assert await jobs(database) == []


@pytest.mark.parametrize(
    ("message", "stored"),
    [("why", "why"), (None, "Manually marked as failed"), ("", "")],
)
async def test_failing_for_good_spends_all_attempts(
    database: Database, message: str | None, stored: str
) -> None:
    before = await add_job(database, job_key="k", run_at=LATER, max_attempts=7)
    [after] = await call(database, "permanently_fail_jobs", [before["id"]], message)
    assert [after] == await jobs(database)
    assert set(differences(before, after)) == {"attempts", "last_error", "updated_at", "is_available"}
    assert (after["attempts"], after["last_error"], after["is_available"]) == (7, stored, False)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ({}, {}),
        ({"run_at": LATER}, {"run_at": LATER}),
        ({"priority": 0}, {"priority": 0}),
        ({"attempts": 0}, {"attempts": 0}),
        ({"attempts": -1}, {"attempts": -1}),
        ({"attempts": 99}, {"attempts": 99, "is_available": False}),
        ({"max_attempts": 1}, {"max_attempts": 1, "is_available": False}),
        (
            {"run_at": LATER, "priority": 1, "attempts": 2, "max_attempts": 3},
            {"run_at": LATER, "priority": 1, "attempts": 2, "max_attempts": 3},
        ),
    ],
)
async def test_rescheduling_changes_what_is_given(
    database: Database, arguments: dict[str, object], changes: Row
) -> None:
    await add_job(database, priority=5, max_attempts=9, job_key="k")
    await database.execute("update graphile_worker._private_jobs set attempts = 4, last_error = 'e'")
    [before] = await jobs(database)
    [after] = await call(database, "reschedule_jobs", [before["id"]], **arguments)
    assert [after] == await jobs(database)
    assert after["updated_at"] > before["updated_at"]
    assert differences(before, after) == changes | {"updated_at": after["updated_at"]}


@pytest.mark.parametrize(
    ("argument", "value", "sqlstate"),
    [
        ("priority", 32768, "22003"),
        ("attempts", 32768, "22003"),
        ("max_attempts", 32768, "22003"),
        ("max_attempts", 0, "23514"),
    ],
)
async def test_rescheduling_refuses_what_the_table_cannot_hold(
    database: Database, argument: str, value: int, sqlstate: str
) -> None:
    job = await add_job(database)
    with pytest.raises(StatementFailed) as caught:
        await call(database, "reschedule_jobs", [job["id"]], **{argument: value})
    assert caught.value.sqlstate == sqlstate


async def test_a_stuck_job_that_is_rescheduled_can_run_again(database: Database) -> None:
    job = await add_job(database, queue_name="q")
    await lock(database, job["id"], age="5 hours")
    now = await database.fetch_value("select now()")
    [after] = await call(database, "reschedule_jobs", [job["id"]], now)
    assert (after["is_available"], after["attempts"]) == (True, 1)
