"""Counts of jobs by state: exact as far as they go, marked beyond."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pytest
import trio

from tests.database.random_jobs import add_random_jobs, all_jobs
from trio_graphile import Connection, Database, StatementFailed
from trio_graphile._database.summaries.counts import count_exactly, count_states
from trio_graphile._model.listing import Count, StateCounts

STATES = ("ready", "scheduled", "locked", "failed")

LATER = "update graphile_worker._private_jobs set run_at = run_at + interval '1 day' where id > 20"
MANY_PRIORITIES = """
    insert into graphile_worker._private_jobs (task_id, priority, run_at)
    select 1, number, case when number = 1000 then now() - interval '1 day' else now() end
    from generate_series(1, 1000) as number
"""


async def by_hand(connection: Connection) -> tuple[Counter[str], datetime | None]:
    jobs = await all_jobs(connection)
    oldest = min((job["run_at"] for job in jobs if job["state"] == "ready"), default=None)
    return Counter(job["state"] for job in jobs), oldest


def values(counts: StateCounts) -> dict[str, int]:
    return {state: getattr(counts, state).value for state in STATES}


def is_estimate(counts: StateCounts) -> dict[str, bool]:
    return {state: getattr(counts, state).is_estimate for state in STATES}


async def test_nothing_is_counted_exactly(database: Database) -> None:
    for counts in (await count_states(database), await count_exactly(database)):
        assert set(values(counts).values()) == {0}
        assert counts.total == Count(value=0)
        assert counts.oldest_ready_at is None


@pytest.mark.parametrize("seed", [0.1, 0.2, 0.3])
async def test_what_is_few_is_counted_exactly(connection: Connection, seed: float) -> None:
    async with connection.transaction():
        await add_random_jobs(connection, 200, seed)
        expected, oldest = await by_hand(connection)
        for counts in (await count_states(connection, cap=200), await count_exactly(connection)):
            assert values(counts) == expected
            assert counts.total == Count(value=200)
            assert not any(is_estimate(counts).values())
            assert counts.oldest_ready_at == oldest
            assert counts.counted_at == await connection.fetch_value("select now()")


async def test_an_exact_count_ends_in_time(database: Database) -> None:
    """Somebody has the whole table locked, say. What was set for it is forgotten."""
    async with database.transaction() as other, database.connection() as connection:
        await other.execute("lock table graphile_worker._private_jobs")
        with trio.fail_after(20), pytest.raises(StatementFailed, match="statement timeout"):
            await count_exactly(connection, longest=0.05)
        assert await connection.fetch_value("show statement_timeout") != "50ms"


@pytest.mark.parametrize("seed", [0.1, 0.2, 0.3])
async def test_of_many_jobs_those_in_an_index_are_exact_up_to_the_cap(
    connection: Connection, seed: float
) -> None:
    """The locked ones are in none."""
    async with connection.transaction():
        await add_random_jobs(connection, 300, seed)
        expected, oldest = await by_hand(connection)
        cap = max(expected["failed"], expected["scheduled"])
        assert cap < expected["ready"]
        counts = await count_states(connection, cap=cap)
        assert is_estimate(counts) == {"ready": True, "scheduled": False, "locked": True, "failed": False}
        assert values(counts)["failed"] == expected["failed"]
        assert values(counts)["scheduled"] == expected["scheduled"]
        assert counts.oldest_ready_at == oldest
        assert counts.total.is_estimate


async def test_what_is_not_ready_is_scheduled(connection: Connection) -> None:
    await add_random_jobs(connection, 1000)
    await connection.execute(
        "update graphile_worker._private_jobs set run_at = run_at + '1 day' where id > 20"
    )
    await connection.execute("analyze graphile_worker._private_jobs")
    expected, _ = await by_hand(connection)
    counts = await count_states(connection, cap=20)
    assert counts.ready == Count(value=expected["ready"])
    assert counts.scheduled.is_estimate
    assert counts.scheduled.value == pytest.approx(expected["scheduled"], rel=0.1)


async def test_what_the_server_knows_of_a_table_it_has_looked_at_is_about_right(
    connection: Connection,
) -> None:
    await add_random_jobs(connection, 3000)
    await connection.execute("analyze graphile_worker._private_jobs")
    expected, _ = await by_hand(connection)
    counts = await count_states(connection, cap=10)
    assert all(is_estimate(counts).values())
    for state, value in values(counts).items():
        assert value == pytest.approx(expected[state], rel=0.4), state  # PostgreSQL 14 is the furthest off
    assert counts.total.value == pytest.approx(3000, rel=0.05)


async def test_what_workers_say_of_locked_jobs_is_believed(connection: Connection) -> None:
    await add_random_jobs(connection, 1000)
    await connection.execute("analyze graphile_worker._private_jobs")
    counts = await count_states(connection, locked=123, cap=10)
    assert counts.locked == Count(value=123, is_estimate=True)
    few = await count_states(connection, locked=123)
    assert few.locked == Count(value=(await by_hand(connection))[0]["locked"])


async def test_a_table_that_grew_since_the_server_looked_at_it_is_known_to_be_larger(
    connection: Connection,
) -> None:
    await add_random_jobs(connection, 2000)
    await connection.execute("analyze graphile_worker._private_jobs")
    await add_random_jobs(connection, 6000, 0.2)
    counts = await count_states(connection, cap=10)
    assert counts.total.value > 4000


async def test_of_a_table_that_nobody_has_looked_at_nothing_wild_is_said(connection: Connection) -> None:
    """The planner would say of nearly all jobs that they are locked."""
    await connection.execute("alter table graphile_worker._private_jobs set (autovacuum_enabled = off)")
    await add_random_jobs(connection, 1000)
    expected, oldest = await by_hand(connection)
    counts = await count_states(connection, cap=20)
    assert counts.locked.value < expected["locked"] * 2
    assert all(20 < value <= 1000 for state, value in values(counts).items() if state != "locked")
    assert counts.oldest_ready_at == oldest


async def test_an_estimate_is_never_below_what_was_counted(connection: Connection) -> None:
    """The server believes that there are ten jobs of each kind."""
    await connection.execute("alter table graphile_worker._private_jobs set (autovacuum_enabled = off)")
    await add_random_jobs(connection, 40)
    await connection.execute("analyze graphile_worker._private_jobs")
    await add_random_jobs(connection, 1000, 0.2)
    counts = await count_states(connection, cap=60)
    assert all(value > 60 for state, value in values(counts).items() if state != "locked")
    assert counts.total.value >= sum(values(counts).values())


async def test_a_schema_without_our_index_has_its_failed_jobs_estimated(connection: Connection) -> None:
    await add_random_jobs(connection, 2000)
    await connection.execute("drop index graphile_worker.trio_graphile_failed_index")
    await connection.execute("analyze graphile_worker._private_jobs")
    expected, _ = await by_hand(connection)
    counts = await count_states(connection, cap=1000)
    assert counts.failed.is_estimate
    assert counts.failed.value == pytest.approx(expected["failed"], rel=0.35)


async def test_more_priorities_than_are_looked_at_make_an_estimate(database: Database) -> None:
    await database.execute(MANY_PRIORITIES)
    counts = await count_states(database, cap=999)
    assert counts.ready.is_estimate
    assert counts.ready.value >= 500
    assert counts.scheduled.is_estimate
