"""A claim, while somebody changes the jobs that it has found: what they are when they are locked counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio

from tests.database.sessions import wait_until_somebody_waits
from trio_graphile import Connection, Database, Job
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.memory import PlainClaim
from trio_graphile._model.bounds import ClaimRules

# A claim has chosen the moment of which it sees all rows before it asks for its tasks; it locks jobs later.
WAITING_TASKS = """
    alter table graphile_worker._private_tasks rename to all_tasks;
    create function graphile_worker.wait_here() returns boolean language plpgsql as $$
    begin
      if current_setting('tests.waits', true) = 'on' then
        perform pg_advisory_xact_lock_shared(1);
      end if;
      return true;
    end $$;
    create view graphile_worker._private_tasks as
    select * from graphile_worker.all_tasks where graphile_worker.wait_here();
    insert into graphile_worker.all_tasks (identifier) values ('mine'), ('foreign');
    insert into graphile_worker._private_job_queues (queue_name) values ('first'), ('second')
"""
INSERT = """
    insert into graphile_worker._private_jobs (task_id, job_queue_id, priority, run_at)
    select
      (select id from graphile_worker.all_tasks where identifier = $1::text),
      (select id from graphile_worker._private_job_queues where queue_name = $2::text),
      $3::smallint,
      now() - interval '1 minute'
    from generate_series(1, $4::integer)
"""
LOCKED = """
    select locked_by from graphile_worker._private_jobs where locked_by is not null
    union all
    select locked_by from graphile_worker._private_job_queues where locked_by is not null
"""
CHANGE = "update graphile_worker._private_jobs set {change} where priority = 1"
TO_FOREIGN_TASK = "task_id = (select id from graphile_worker.all_tasks where identifier = 'foreign')"
TO_SECOND_QUEUE = """
    job_queue_id = (select id from graphile_worker._private_job_queues where queue_name = 'second')
"""
CHANGES = {
    "task": TO_FOREIGN_TASK,
    "queue": TO_SECOND_QUEUE,
    "flags": """flags = '{"slow": true}'""",
    "time": "run_at = now() + interval '1 hour'",
    "attempts": "attempts = max_attempts",
}


@attrs.frozen(kw_only=True)
class Place:
    """Where a job stands that a claim finds."""

    queue_name: str | None = None
    plain: PlainClaim | None = None
    crowd_queue_name: str | None = None
    crowd: int = 0
    """How many jobs of a foreign task stand before it."""


PLACES = {
    "plain": Place(plain=PlainClaim.IN_HEAD),
    "plain, behind a crowd": Place(plain=PlainClaim.PAST_HEAD, crowd=1000),
    "without a queue": Place(),
    "without a queue, behind a crowd": Place(crowd=1000),
    "named queue": Place(queue_name="first"),
    "named queue, behind a crowd": Place(queue_name="first", crowd_queue_name="second", crowd=1000),
}


@pytest.fixture(params=PLACES.values(), ids=list(PLACES))
async def place(request: pytest.FixtureRequest, database: Database) -> Place:
    place: Place = request.param
    await database.execute(WAITING_TASKS)
    await database.execute(INSERT, "mine", place.queue_name, 1, 1)
    await database.execute(INSERT, "foreign", place.crowd_queue_name, 0, place.crowd)
    return place


async def claim_while(
    database: Database, change: str, claim: Callable[[Connection], Awaitable[list[Job]]]
) -> list[Job]:
    """Change the jobs of priority 1 once the claim sees them as they were; return what it brings."""
    jobs: list[Job] = []

    async def run() -> None:
        async with database.connection() as connection:
            await connection.execute("set tests.waits = on")
            jobs.extend(await claim(connection))

    async with trio.open_nursery() as nursery, database.connection() as connection:
        await connection.execute("select pg_advisory_lock(1)")
        nursery.start_soon(run)
        await wait_until_somebody_waits(database)
        await connection.execute(CHANGE.format(change=change))
        await connection.execute("select pg_advisory_unlock(1)")
    return jobs


async def claim_one(connection: Connection, *, plain: PlainClaim | None) -> list[Job]:
    get_jobs = claims.get_jobs if plain is None else partial(plain_claims.get_plain_jobs, which=plain)
    return await get_jobs(connection, "me", ["mine"], 1, ClaimRules(["slow"]))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_job_that_is_not_to_be_had_any_more_is_left_alone(
    database: Database, place: Place, change: str
) -> None:
    """Adding a job anew under its key may make it one of another task or queue."""
    claim = partial(claim_one, plain=place.plain)
    assert await claim_while(database, change, claim) == []
    assert await database.fetch(LOCKED) == []


async def test_a_job_that_was_changed_but_is_still_to_be_had_is_claimed_as_it_is(
    database: Database, place: Place
) -> None:
    [job] = await claim_while(database, "payload = '[1]'", partial(claim_one, plain=place.plain))
    assert (job.payload, job.task_identifier, job.queue_name) == ([1], "mine", place.queue_name)
    assert len(await database.fetch(LOCKED)) == (1 if place.queue_name is None else 2)


async def test_no_two_jobs_of_a_queue_are_claimed_when_one_comes_from_another(database: Database) -> None:
    await database.execute(WAITING_TASKS)
    await database.execute(INSERT, "mine", "first", 1, 1)
    await database.execute(INSERT, "mine", "second", 2, 1)

    async def claim(connection: Connection) -> list[Job]:
        return await claims.get_jobs(connection, "me", ["mine"], 10)

    [job] = await claim_while(database, TO_SECOND_QUEUE, claim)
    assert (job.queue_name, job.priority) == ("second", 2)


@pytest.mark.parametrize("plain", [None, PlainClaim.PAST_HEAD])
async def test_two_claims_at_once_behind_a_crowd_take_different_jobs(
    database: Database, plain: PlainClaim | None
) -> None:
    await database.execute(WAITING_TASKS)
    await database.execute(INSERT, "foreign", None, 0, 1000)
    await database.execute(INSERT, "mine", None, 1, 9)
    get_jobs = claims.get_jobs if plain is None else partial(plain_claims.get_plain_jobs, which=plain)
    async with database.transaction() as connection:
        first = await get_jobs(connection, "me", ["mine"], 4)
        second = await get_jobs(database, "other", ["mine"], 4)
        assert [job.id for job in (*first, *second)] == list(range(1001, 1009))
