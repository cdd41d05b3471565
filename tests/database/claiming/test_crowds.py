"""A claim takes the best jobs, in their order, whatever crowd of other rows stands before them."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import attrs
import pytest

from trio_graphile import Connection, Database, Job
from trio_graphile._database import held_rows
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.look_back import Position
from trio_graphile._database.claiming.memory import PlainClaim
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.instants import LAST

ME = "trio_graphile_me"
NOT_SLOW = ClaimRules(["slow"])
TASKS = ["a", "b"]
PAST = datetime(2020, 1, 1, tzinfo=UTC)
INSERT = """
    insert into graphile_worker._private_jobs
      (task_id, job_queue_id, priority, run_at, attempts, max_attempts, flags)
    select tasks.id, queues.id, rows.priority, rows.run_at, rows.attempts, 25,
      case when rows.is_flagged then '{"slow": true}'::jsonb end
    from unnest(
      $1::text[], $2::text[], $3::integer[], $4::timestamptz[], $5::integer[], $6::boolean[]
    ) as rows(task, queue, priority, run_at, attempts, is_flagged)
    join graphile_worker._private_tasks as tasks on tasks.identifier = rows.task
    left join graphile_worker._private_job_queues as queues on queues.queue_name = rows.queue
"""
NAMES = """
    insert into graphile_worker._private_tasks (identifier) values ('a'), ('b'), ('foreign');
    insert into graphile_worker._private_job_queues (queue_name)
    select 'q' || number
    from generate_series(1, 400) as number
"""
DELETE_OTHER_QUEUES = """
    delete from graphile_worker._private_job_queues as queues
    where not exists (
      select from graphile_worker._private_jobs as jobs
      where jobs.job_queue_id = queues.id
    )
"""
LOCK_JOBS = """
    select from graphile_worker._private_jobs where id = any($1::bigint[]) for update
"""
CLAIMABLE = """
    with wanted as (
      select jobs.id, jobs.priority, jobs.run_at, jobs.job_queue_id
      from graphile_worker._private_jobs as jobs
      join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
      left join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
      where jobs.is_available
        and jobs.run_at <= now()
        and tasks.identifier = any($1::text[])
        and (jobs.flags ? 'slow') is not true
        and queues.is_available is not false
    )
    select id
    from (
      select id, priority, run_at
      from wanted
      where job_queue_id is null
      union all
      (
        select distinct on (job_queue_id) id, priority, run_at
        from wanted
        where job_queue_id is not null
        order by job_queue_id, priority, run_at, id
      )
    ) as found
    order by priority, run_at, id
"""


@attrs.frozen(kw_only=True)
class Kind:
    """Rows of one kind that stand in the table."""

    count: int
    task: str = "a"
    queues: int = 0
    """Over how many named queues they are spread; 0 for none."""
    priority: int = 0
    is_future: bool = False
    attempts: int = 0
    is_flagged: bool = False


SOME = [
    Kind(count=30),
    Kind(count=20, task="b", priority=1),
    Kind(count=60, queues=20),
    Kind(count=5, priority=-2),
]
PLAIN = [
    Kind(count=120),
    Kind(count=60, task="b", priority=-1),
    Kind(count=30, is_flagged=True),
    Kind(count=20, attempts=25, priority=-5),
    Kind(count=300, task="foreign", priority=9),
]
TABLES = {
    "plain": PLAIN,
    "few queues": [*PLAIN, Kind(count=40, queues=4, priority=-2), Kind(count=40, queues=4, priority=2)],
    "no crowd": SOME,
    "foreign, else plain": [Kind(count=300, task="foreign", priority=-9), *PLAIN],
    "future, else plain": [Kind(count=300, is_future=True, priority=-9), *PLAIN],
    "foreign": [Kind(count=300, task="foreign", priority=-5), *SOME],
    "foreign among ours": [Kind(count=600, task="foreign"), *SOME],
    "future": [Kind(count=300, is_future=True, priority=-5), *SOME],
    "exhausted": [Kind(count=300, attempts=25, priority=-5), *SOME],
    "flagged": [Kind(count=300, is_flagged=True, priority=-5), *SOME],
    "few crowded queues": [Kind(count=400, queues=2, priority=-5), *SOME],
    "many queues": [Kind(count=800, queues=400), *SOME],
    "many queues, all else better": [Kind(count=800, queues=400, priority=5), *SOME],
    "foreign in queues": [Kind(count=400, queues=50, task="foreign", priority=-5), *SOME],
    "future in queues": [Kind(count=400, queues=50, is_future=True, priority=-5), *SOME],
    "flagged in queues": [Kind(count=400, queues=50, is_flagged=True, priority=-5), *SOME],
    "many priorities": [
        Kind(count=10, priority=p, task=t) for p in range(-8, 8) for t in ("a", "b", "foreign")
    ],
    "all of it": [
        Kind(count=250, task="foreign", priority=-5),
        Kind(count=250, queues=60, priority=-5, is_future=True),
        Kind(count=250, queues=3, priority=-4),
        Kind(count=250, priority=-3, is_future=True),
        *SOME,
    ],
}


async def fill(connection: Connection, kinds: list[Kind], random: Random) -> None:
    await connection.execute(NAMES)
    rows: list[tuple[Any, ...]] = []
    for kind in kinds:
        for _ in range(kind.count):
            later = timedelta(days=50_000) if kind.is_future else timedelta()
            run_at = PAST + later + timedelta(microseconds=random.randrange(10**12))
            queue_name = f"q{random.randint(1, kind.queues)}" if kind.queues else None
            rows.append((kind.task, queue_name, kind.priority, run_at, kind.attempts, kind.is_flagged))
    await connection.execute(INSERT, *map(list, zip(*rows, strict=True)))
    await connection.execute(DELETE_OTHER_QUEUES)


async def claim(session: Connection, limit: int, plain: PlainClaim | None, *, width: int = 1) -> list[Job]:
    """Claim as a worker does that has looked at the front."""
    jobs: list[Job] = []
    if plain is not None:
        jobs = await plain_claims.get_plain_jobs(session, ME, TASKS, limit, NOT_SLOW, which=plain)
    return jobs or await claims.get_jobs(session, ME, TASKS, limit, NOT_SLOW, width=width)


@pytest.mark.parametrize("limit", [1, 3, 40])
@pytest.mark.parametrize("kinds", TABLES.values(), ids=TABLES)
async def test_a_claim_takes_the_best_first_whatever_stands_in_the_way(
    database: Database, kinds: list[Kind], limit: int
) -> None:
    """Some stay claimed, so that their queues are locked; the rest is completed, until nothing is left."""
    random = Random(limit)
    session = await database.open_session("claim", cancel_timeout=5.0)
    await fill(session, kinds, random)
    held: list[Any] = []
    while expected := [row["id"] for row in await session.fetch(CLAIMABLE, TASKS)]:
        plain, _ = await plain_claims.probe(session, TASKS, limit)
        if random.random() < 0.3:
            plain = None
        jobs = await claim(session, limit, plain, width=random.choice([1, 10]))
        assert [job.id for job in jobs] == expected[:limit]
        assert len({job.queue_name for job in jobs if job.queue_name}) == len(
            [job for job in jobs if job.queue_name]
        )
        done = [job for job in jobs if random.random() < 0.9]
        held += [job for job in jobs if job not in done]
        assert len(await held_rows.complete_jobs(session, ME, done)) == len(done)
    assert await claims.get_jobs(session, ME, TASKS, limit, NOT_SLOW) == []
    await session.aclose()


@pytest.mark.parametrize("limit", [1, 3, 15])
@pytest.mark.parametrize("kinds", TABLES.values(), ids=TABLES)
async def test_a_claim_passes_over_rows_that_somebody_has_locked(
    database: Database, kinds: list[Kind], limit: int
) -> None:
    """However many there are. A queue whose next job is among them hands out none."""
    async with aclosing(await database.open_session("claim", cancel_timeout=5.0)) as session:
        await fill(session, kinds, Random(limit))
        expected = [row["id"] for row in await session.fetch(CLAIMABLE, TASKS)]
        plain = (await plain_claims.probe(session, TASKS, limit))[0]
        async with database.transaction() as connection:
            await connection.execute(LOCK_JOBS, expected[:-limit])
            jobs = await claim(session, limit, plain)
        assert [job.id for job in jobs] == expected[-limit:]


async def test_a_claim_from_a_place_on_leaves_out_what_comes_before_it(connection: Connection) -> None:
    await fill(connection, [Kind(count=10)], Random(1))
    best, *rest = [row["id"] for row in await connection.fetch(CLAIMABLE, TASKS)]
    place = await connection.fetch_row(
        "select priority, run_at from graphile_worker._private_jobs where id = $1::bigint", rest[0]
    )
    assert place is not None
    jobs = await claims.get_jobs(connection, ME, TASKS, 20, start=Position(**place))
    assert [job.id for job in jobs] == rest
    assert [job.id for job in await claims.get_jobs(connection, ME, TASKS, 20)] == [best]


async def test_a_claim_from_a_place_on_takes_the_first_job_of_each_queue_wherever_it_is(
    connection: Connection,
) -> None:
    """Else a job that waits for its queue while the place moves on would come after newer ones."""
    await fill(connection, [Kind(count=5), Kind(count=5, queues=400)], Random(1))
    rows = await connection.fetch(CLAIMABLE, TASKS)
    start = Position(2**15 - 1, LAST)
    jobs = await claims.get_jobs(connection, ME, TASKS, 20, start=start)
    assert len(jobs) == 5
    assert {job.id for job in jobs if job.queue_name is None} == set()
    assert {job.id for job in jobs} <= {row["id"] for row in rows}


async def test_a_claim_up_to_a_place_finds_what_comes_before_it_and_leaves_the_rest(
    connection: Connection,
) -> None:
    await fill(connection, [Kind(count=10)], Random(1))
    ids = [row["id"] for row in await connection.fetch(CLAIMABLE, TASKS)]
    first, last = [
        Position(**row)
        for row in await connection.fetch(
            "select priority, run_at from graphile_worker._private_jobs where id = any($1::bigint[])"
            " order by priority, run_at",
            [ids[1], ids[4]],
        )
    ]
    assert await claims.get_jobs(connection, ME, TASKS, 20, start=first, end=first) == []
    jobs = await claims.get_jobs(connection, ME, TASKS, 20, start=first, end=last)
    assert [job.id for job in jobs] == ids[1:4]
    jobs = await claims.get_jobs(connection, ME, TASKS, 20, end=last)
    assert [job.id for job in jobs] == ids[:1]
    everything = Position(last.priority, LAST)
    jobs = await claims.get_jobs(connection, ME, TASKS, 20, end=everything)
    assert [job.id for job in jobs] == ids[4:]


async def test_a_plain_claim_from_a_place_on_leaves_out_what_comes_before_it(connection: Connection) -> None:
    await fill(connection, PLAIN, Random(1))
    best, *rest = [row["id"] for row in await connection.fetch(CLAIMABLE, TASKS)]
    place = await connection.fetch_row(
        "select priority, run_at from graphile_worker._private_jobs where id = $1::bigint", rest[0]
    )
    assert place is not None
    start = Position(**place)
    for plain in PlainClaim:
        jobs = await plain_claims.get_plain_jobs(
            connection, ME, TASKS, 20, NOT_SLOW, start=start, which=plain
        )
        assert [job.id for job in jobs] == rest[:20]
        del rest[:20]
    [job] = await plain_claims.get_plain_jobs(connection, ME, TASKS, 1, NOT_SLOW, which=IN_HEAD)
    assert job.id == best


QUEUED = Kind(count=1, queues=1)
IN_HEAD, PAST_HEAD = PlainClaim


@pytest.mark.parametrize(
    ("kinds", "plain"),
    [
        ([], IN_HEAD),
        (PLAIN, IN_HEAD),
        ([*PLAIN, Kind(count=100, is_future=True, priority=-5)], IN_HEAD),
        ([*PLAIN, Kind(count=111, task="foreign", priority=-5)], PAST_HEAD),
        ([*PLAIN, Kind(count=111, is_future=True, priority=-5)], PAST_HEAD),
        ([*PLAIN, Kind(count=111, is_future=True, priority=-5), Kind(count=1, priority=3)], None),
        ([*PLAIN, Kind(count=111, task="foreign", priority=-5), QUEUED], None),
        ([Kind(count=111, task="foreign", priority=-5)], None),
        ([Kind(count=50, task="foreign")], IN_HEAD),
        ([*PLAIN, QUEUED], None),
        ([QUEUED], None),
        ([attrs.evolve(QUEUED, is_future=True, priority=9)], None),
        ([attrs.evolve(QUEUED, task="foreign")], None),
        ([attrs.evolve(QUEUED, attempts=25), *PLAIN], IN_HEAD),
    ],
)
async def test_the_front_is_plain_without_named_queues_and_crowds(
    connection: Connection, kinds: list[Kind], plain: PlainClaim | None
) -> None:
    if kinds:
        await fill(connection, kinds, Random(1))
    assert (await plain_claims.probe(connection, TASKS, 10))[0] is plain


@pytest.mark.parametrize(
    ("kinds", "locked", "plain"),
    [
        ([*PLAIN, Kind(count=50, queues=2, priority=-5)], ["q1", "q2"], IN_HEAD),
        ([*PLAIN, Kind(count=50, queues=2, priority=-5)], ["q1"], None),
        ([*PLAIN, Kind(count=500, queues=20)], [f"q{n}" for n in range(1, 21)], IN_HEAD),
        ([*PLAIN, Kind(count=500, queues=21)], [f"q{n}" for n in range(1, 22)], None),
        ([*PLAIN, Kind(count=111, task="foreign", priority=-5), QUEUED], ["q1"], PAST_HEAD),
        ([Kind(count=111, task="foreign"), QUEUED], ["q1"], None),
        ([*PLAIN, attrs.evolve(QUEUED, attempts=25)], ["q1"], IN_HEAD),
    ],
)
async def test_the_front_is_plain_beside_few_locked_queues(
    connection: Connection, kinds: list[Kind], locked: list[str], plain: PlainClaim | None
) -> None:
    await fill(connection, kinds, Random(1))
    await connection.execute(LOCK_QUEUES, locked)
    assert (await plain_claims.probe(connection, TASKS, 10))[0] is plain


FREE_QUEUE = """
    update graphile_worker._private_job_queues as queues
    set locked_by = null, locked_at = null
    where queues.queue_name = $1::text
"""
LOCK_QUEUES = """
    update graphile_worker._private_job_queues as queues
    set locked_by = 'somebody', locked_at = now()
    where queues.queue_name = any($1::text[])
"""


@pytest.mark.parametrize("plain", PlainClaim)
@pytest.mark.parametrize("queued", [QUEUED, attrs.evolve(QUEUED, is_future=True, priority=9)])
async def test_a_plain_claim_takes_nothing_while_a_job_of_a_named_queue_waits(
    connection: Connection, queued: Kind, plain: PlainClaim
) -> None:
    await fill(connection, [*PLAIN, queued], Random(1))
    assert await plain_claims.get_plain_jobs(connection, ME, TASKS, 10, which=plain) == []
    assert len(await claims.get_jobs(connection, ME, TASKS, 10)) == 10


@pytest.mark.parametrize("plain", PlainClaim)
async def test_a_plain_claim_takes_the_best_beside_locked_queues_until_one_is_free(
    connection: Connection, plain: PlainClaim
) -> None:
    await fill(connection, [*PLAIN, Kind(count=50, queues=2, priority=-9)], Random(1))
    await connection.execute(LOCK_QUEUES, ["q1", "q2"])
    expected = [row["id"] for row in await connection.fetch(CLAIMABLE, TASKS)]
    jobs = await plain_claims.get_plain_jobs(connection, ME, TASKS, 10, NOT_SLOW, which=plain)
    assert [job.id for job in jobs] == expected[:10]
    await connection.execute(FREE_QUEUE, "q2")
    assert await plain_claims.get_plain_jobs(connection, ME, TASKS, 10, which=plain) == []
    [best, *_] = await claims.get_jobs(connection, ME, TASKS, 10)
    assert best.queue_name == "q2"


CROWDS = {
    "foreign": [Kind(count=20_000, task="foreign", priority=-5), Kind(count=500)],
    "future": [Kind(count=20_000, is_future=True, priority=-5), Kind(count=500)],
    "exhausted": [Kind(count=20_000, attempts=25, priority=-5), Kind(count=500)],
    "future in queues": [
        Kind(count=20_000, is_future=True, queues=3, priority=-5),
        Kind(count=500, queues=100),
    ],
    "one queue": [Kind(count=20_000, queues=1, priority=-5), Kind(count=500, queues=100)],
}
ROWS_READ = """
    select seq_tup_read + idx_tup_fetch
    from pg_stat_xact_user_tables
    where relname = $1::text
"""  # $1 the table


@pytest.mark.parametrize("before", ["analyze", "select 1"], ids=["analyzed", "not analyzed"])
@pytest.mark.parametrize("kinds", CROWDS.values(), ids=CROWDS)
async def test_a_claim_does_not_read_the_crowd(database: Database, kinds: list[Kind], before: str) -> None:
    async with aclosing(await database.open_session("claim", cancel_timeout=5.0)) as session:
        await fill(session, kinds, Random(1))
        await session.execute(before)
        for plain in dict.fromkeys([None, (await plain_claims.probe(session, TASKS, 20))[0]]):
            claim = claims.get_jobs if plain is None else partial(plain_claims.get_plain_jobs, which=plain)
            await session.execute("begin")  # within a transaction the server counts what was read
            read = await session.fetch_value(ROWS_READ, "_private_jobs")
            assert len(await claim(session, ME, TASKS, 20, NOT_SLOW)) == 20
            assert await session.fetch_value(ROWS_READ, "_private_jobs") - read < 1000
            await session.execute("commit")


@pytest.mark.parametrize("before", ["analyze", "select 1"], ids=["analyzed", "not analyzed"])
async def test_a_claim_looks_up_only_the_queues_that_it_takes_from(database: Database, before: str) -> None:
    """There are ten times as many at the front. Each is locked, marked as locked, and named."""
    async with aclosing(await database.open_session("claim", cancel_timeout=5.0)) as session:
        await fill(session, [Kind(count=1000, queues=400)], Random(1))
        await session.execute(before)
        await session.execute("begin")
        read = await session.fetch_value(ROWS_READ, "_private_job_queues")
        assert len(await claims.get_jobs(session, ME, TASKS, 20)) == 20
        assert await session.fetch_value(ROWS_READ, "_private_job_queues") - read <= 3 * 20
        await session.execute("commit")
