"""The schema's functions, called while another transaction is in the middle of something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.database.functions.calls import jobs
from tests.database.sessions import wait_until_somebody_waits
from trio_graphile._database.connection import Connection, Row
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed

ADD_ONE = "select id, key, revision, payload::text from graphile_worker.add_job('a', '[2]', job_key => 'k')"
ADD_TWO = """
    select id, key, revision, payload::text
    from graphile_worker.add_jobs(array[
      row('a', '[2]', null, null, null, 'k', null, null),
      row('a', '[3]', null, null, null, 'other', null, null)
    ]::graphile_worker.job_spec[])
"""
ADDS = [pytest.param(ADD_ONE, id="add_job"), pytest.param(ADD_TWO, id="add_jobs")]

CLAIM = """
    update graphile_worker._private_jobs
    set locked_at = clock_timestamp(), locked_by = 'w', attempts = attempts + 1
    where key = 'k'
"""


class Answer:
    """The rows of a statement that another task runs, or its failure."""

    rows: list[Row]
    error: StatementFailed | None = None

    @property
    def first(self) -> dict[str, Any]:
        """The row, as values."""
        return dict(self.rows[0])


@asynccontextmanager
async def meanwhile(database: Database, theirs: str, ours: str) -> AsyncIterator[tuple[Connection, Answer]]:
    """Run `theirs` in a transaction, then `ours` until it waits for that; the body ends theirs."""
    answer = Answer()

    async def run() -> None:
        try:
            answer.rows = await database.fetch(ours)
        except StatementFailed as error:
            answer.error = error

    async with trio.open_nursery() as nursery, database.connection() as connection:
        await connection.execute("begin")
        await connection.execute(theirs)
        nursery.start_soon(run)
        await wait_until_somebody_waits(database)
        yield connection, answer


@pytest.mark.parametrize("ours", ADDS)
async def test_a_key_that_is_being_added_is_waited_for_and_its_job_updated(
    database: Database, ours: str
) -> None:
    await database.execute("select graphile_worker.add_job('a')")  # the task is no reason to wait
    theirs = "select graphile_worker.add_job('a', '[1]', job_key => 'k')"
    async with meanwhile(database, theirs, ours) as (connection, answer):
        await connection.execute("commit")
    assert (answer.first["revision"], answer.first["payload"]) == (1, "[1, 2]")


@pytest.mark.parametrize("ours", ADDS)
async def test_a_key_whose_addition_is_rolled_back_is_added(database: Database, ours: str) -> None:
    await database.execute("select graphile_worker.add_job('a')")
    theirs = "select graphile_worker.add_job('a', '[1]', job_key => 'k')"
    async with meanwhile(database, theirs, ours) as (connection, answer):
        await connection.execute("rollback")
    assert (answer.first["revision"], answer.first["payload"]) == (0, "[2]")


@pytest.mark.parametrize("ours", ADDS)
async def test_a_job_that_is_being_claimed_is_detached_and_the_new_payload_not_lost(
    database: Database, ours: str
) -> None:
    await database.execute("select graphile_worker.add_job('a', '[1]', job_key => 'k')")
    async with meanwhile(database, CLAIM, ours) as (connection, answer):
        await connection.execute("commit")
    assert (answer.first["key"], answer.first["revision"], answer.first["payload"]) == ("k", 0, "[2]")
    old, new, *_ = await jobs(database)
    assert new["id"] == answer.first["id"]
    assert (old["key"], old["attempts"], old["locked_by"], old["payload"]) == (None, 25, "w", "[1]")
    assert old["updated_at"] >= old["locked_at"]  # though our transaction began before the claim


@pytest.mark.parametrize("ours", ADDS)
async def test_a_job_that_is_being_completed_is_followed_by_a_new_one(database: Database, ours: str) -> None:
    await database.execute("select graphile_worker.add_job('a', '[1]', job_key => 'k')")
    await database.execute(CLAIM)
    theirs = "delete from graphile_worker._private_jobs where key = 'k'"
    async with meanwhile(database, theirs, ours) as (connection, answer):
        await connection.execute("commit")
    assert (answer.first["revision"], answer.first["payload"]) == (0, "[2]")


@pytest.mark.parametrize("ours", ADDS)
async def test_a_job_that_is_being_detached_by_another_add_is_not_added_twice(
    database: Database, ours: str
) -> None:
    await database.execute("select graphile_worker.add_job('a', '[0]', job_key => 'k')")
    await database.execute(CLAIM)
    theirs = "select graphile_worker.add_job('a', '[1]', job_key => 'k')"
    async with meanwhile(database, theirs, ours) as (connection, answer):
        await connection.execute("commit")
    assert (answer.first["revision"], answer.first["payload"]) == (1, "[1, 2]")
    rows = await jobs(database)
    assert [row["key"] for row in rows if row["key"] != "other"] == [None, "k"]


HOLD_UP_INSERTS = """
    create function hold_up() returns trigger language plpgsql as $$
    begin
      if current_setting('application_name') = 'held up' then
        perform pg_advisory_lock(1);
        perform pg_advisory_unlock(1);
      end if;
      return new;
    end $$;
    create trigger hold_up before insert on graphile_worker._private_jobs
    for each statement execute function hold_up();
"""


@pytest.mark.parametrize("state", ["running", "dead", "waiting"])
@pytest.mark.parametrize("ours", ADDS)
async def test_a_job_that_appears_after_we_looked_is_detached_or_updated(
    database: Database, ours: str, state: str
) -> None:
    """Between our look at the key and our insert somebody adds a job under it, and a worker claims it."""
    await database.execute(HOLD_UP_INSERTS)
    locked, attempts = {"running": ("now()", 1), "dead": ("null", 25), "waiting": ("null", 0)}[state]
    async with database.connection() as held_up, database.connection() as holder:
        await held_up.execute("set application_name = 'held up'")
        await holder.execute("select pg_advisory_lock(1)")
        rows: list[Row] = []

        async def run() -> None:
            rows.extend(await held_up.fetch(ours))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_until_somebody_waits(database)
            await database.execute(f"""
                insert into graphile_worker._private_tasks (identifier) values ('theirs');
                insert into graphile_worker._private_jobs (task_id, payload, key, locked_at, attempts)
                select id, '[1]', 'k', {locked}, {attempts}
                from graphile_worker._private_tasks
                where identifier = 'theirs';
            """)
            await holder.execute("select pg_advisory_unlock(1)")
    kept = state == "waiting"
    assert (rows[0]["key"], rows[0]["revision"]) == ("k", int(kept))
    assert rows[0]["payload"] == ("[1, 2]" if kept else "[2]")
    if ours == ADD_TWO:
        assert (rows[1]["key"], rows[1]["payload"]) == ("other", "[3]")
    detached = [row for row in await jobs(database) if row["key"] is None]
    assert [row["attempts"] for row in detached] == ([] if kept else [25])
    assert await database.fetch_value("select count(*) from graphile_worker.jobs where key = 'k'") == 1


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("ours", ADDS)
async def test_a_first_use_of_a_name_waits_for_another_first_use(
    database: Database, ours: str, ending: str
) -> None:
    async with meanwhile(database, "select graphile_worker.add_job('a')", ours) as (connection, answer):
        await connection.execute(ending)
    assert answer.first["revision"] == 0
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 1
    assert await database.fetch_value("select count(*) from graphile_worker.jobs where key = 'k'") == 1


@pytest.mark.parametrize("ours", ADDS)
async def test_known_names_make_nobody_wait(database: Database, ours: str) -> None:
    await database.execute("select graphile_worker.add_job('a')")
    async with database.connection() as theirs:
        await theirs.execute("begin")
        await theirs.execute("select graphile_worker.add_job('a')")
        with trio.fail_after(10):
            assert len(await database.fetch(ours)) > 0
        await theirs.execute("rollback")


QUEUED = """
    select id
    from graphile_worker.add_jobs(array[
      row('a', null, 'q', null, null, null, null, null),
      row('a', null, 'q', null, null, null, null, null)
    ]::graphile_worker.job_spec[])
"""


@pytest.mark.parametrize(
    "ours",
    ["select id from graphile_worker.add_job('a', queue_name => 'q')", QUEUED],
    ids=["add_job", "add_jobs"],
)
@pytest.mark.parametrize(
    ("theirs", "missing"),
    [
        ("delete from graphile_worker._private_tasks", "task_identifier"),
        ("delete from graphile_worker._private_job_queues", "queue_name"),
    ],
    ids=["tasks", "queues"],
)
async def test_names_that_are_being_collected_as_garbage_are_made_anew(
    database: Database, theirs: str, missing: str, ours: str
) -> None:
    await database.execute("""
        select graphile_worker.add_job('a', queue_name => 'q');
        delete from graphile_worker._private_jobs;
    """)
    async with meanwhile(database, theirs, ours) as (connection, answer):
        await connection.execute("commit")
    rows = await database.fetch("select task_identifier, queue_name from graphile_worker.jobs")
    assert [tuple(row.values()) for row in rows] == [("a", "q")] * len(answer.rows)


async def test_garbage_collection_waits_for_an_add_to_the_end(database: Database) -> None:
    """So whoever collects by a lock first, and a second look after it, finds the job."""
    add = "select graphile_worker.add_job('a', queue_name => 'q')"
    await database.execute(f"{add}; delete from graphile_worker._private_jobs")
    for table in ("_private_tasks", "_private_job_queues"):
        ours = f"select from graphile_worker.{table} for update"
        async with meanwhile(database, add, ours) as (connection, _):
            rows = await database.fetch(f"{ours} skip locked")
            assert rows == []
            await connection.execute("commit")


async def test_claiming_a_queue_does_not_wait_for_an_add_to_it(database: Database) -> None:
    add = "select graphile_worker.add_job('a', queue_name => 'q')"
    await database.execute(add)
    async with database.connection() as theirs:
        await theirs.execute("begin")
        await theirs.execute(add)
        rows = await database.fetch("""
            select id
            from graphile_worker._private_job_queues
            for no key update skip locked
        """)
        assert len(rows) == 1
        await theirs.execute("commit")


def two_keys(first: str, second: str) -> str:
    return f"""
        select key
        from graphile_worker.add_jobs(array[
          row('a', null, null, null, null, '{first}', null, null),
          row('a', null, null, null, null, '{second}', null, null)
        ]::graphile_worker.job_spec[])
    """


@pytest.mark.parametrize("exist", [True, False])
async def test_two_calls_with_the_same_keys_in_opposite_order_do_not_deadlock(
    database: Database, *, exist: bool
) -> None:
    """Twenty callers, each with both keys, half of them the other way round; the rows return as asked for."""
    await database.execute(two_keys("x", "y") if exist else "select graphile_worker.add_job('a')")
    keys: set[tuple[str, ...]] = set()

    async def run(statement: str) -> None:
        for _ in range(5):
            rows = await database.fetch(statement)
            keys.add(tuple(row["key"] for row in rows))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(run, two_keys("x", "y"))
            nursery.start_soon(run, two_keys("y", "x"))
    assert keys == {("x", "y"), ("y", "x")}
    assert await database.fetch_value("select min(revision) from graphile_worker.jobs where key = 'x'") >= 99


async def test_of_many_adds_and_claims_of_one_key_no_payload_is_lost(database: Database) -> None:
    """Each item is added once; at the end each stands in exactly one job, whoever claimed what meanwhile."""
    done = trio.Event()

    async def claim() -> None:
        while not done.is_set():
            await database.execute(CLAIM)

    async def add(first: int) -> None:
        for n in range(first, first + 40):
            row = await database.fetch_row(
                "select id from graphile_worker.add_job('a', json_build_array($1::integer), job_key => 'k')",
                n,
            )
            assert row is not None
            assert row["id"] is not None

    async with trio.open_nursery() as claimers:
        claimers.start_soon(claim)
        claimers.start_soon(claim)
        async with trio.open_nursery() as adders:
            for first in range(0, 160, 40):
                adders.start_soon(add, first)
        done.set()
    items = await database.fetch("""
        select item::text::integer
        from graphile_worker._private_jobs
        cross join json_array_elements(payload) as item
        order by 1
    """)
    assert [row["item"] for row in items] == list(range(160))


async def test_a_repeatable_transaction_is_told_that_the_job_changed(database: Database) -> None:
    await database.execute(ADD_ONE)
    async with database.connection() as ours:
        await ours.execute("begin isolation level repeatable read")
        await ours.execute("select 1")
        await database.execute(CLAIM)
        with pytest.raises(StatementFailed) as caught:
            await ours.execute(ADD_ONE)
        assert caught.value.sqlstate == "40001"
        assert caught.value.transient


async def test_removing_a_job_that_is_being_claimed_detaches_it(database: Database) -> None:
    await database.execute("select graphile_worker.add_job('a', job_key => 'k')")
    ours = "select id, key, locked_by, attempts from graphile_worker.remove_job('k')"
    async with meanwhile(database, CLAIM, ours) as (connection, answer):
        await connection.execute("commit")
    assert (answer.first["key"], answer.first["locked_by"], answer.first["attempts"]) == (None, "w", 25)


async def test_removing_a_key_that_goes_over_to_another_job_removes_that_one(database: Database) -> None:
    await database.execute("select graphile_worker.add_job('a', job_key => 'k')")
    await database.execute(CLAIM)
    theirs = "select graphile_worker.add_job('a', '[1]', job_key => 'k')"
    ours = "select payload::text from graphile_worker.remove_job('k')"
    async with meanwhile(database, theirs, ours) as (connection, answer):
        await connection.execute("commit")
    assert answer.first["payload"] == "[1]"
    assert [row["key"] for row in await jobs(database)] == [None]


@pytest.mark.parametrize("function", ["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"])
async def test_a_job_that_is_being_claimed_is_left_to_its_worker(database: Database, function: str) -> None:
    await database.execute("select graphile_worker.add_job('a', job_key => 'k')")
    ours = f"select id from graphile_worker.{function}(array(select id from graphile_worker.jobs))"
    async with meanwhile(database, CLAIM, ours) as (connection, answer):
        await connection.execute("commit")
    assert answer.rows == []
    [job] = await jobs(database)
    assert (job["locked_by"], job["attempts"]) == ("w", 1)
