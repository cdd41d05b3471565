"""Rows that the database refuses to write, or to show: found among others, and left, while these go on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import pytest

from trio_graphile import Client, Database, StatementFailed, open_database
from trio_graphile._database import stale_locks, sweeps, unknown_locks, unreadable, worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._database.halves import in_halves
from trio_graphile._database.search.find import find_jobs
from trio_graphile._model.listing import JobSearch
from trio_graphile._model.options import SweepOptions
from trio_graphile.embedded import PostgresServer

ME = "trio_graphile_me"


async def refuse(database: Database, condition: str, table: str = "_private_jobs") -> None:
    """Have the database refuse each change of a row that meets a condition."""
    await database.execute(f"""
        create function public.refuse_{table}() returns trigger language plpgsql as $$
        begin
          if {condition} then
            raise exception 'not this one';
          end if;
          return case when tg_op = 'DELETE' then old else new end;
        end
        $$;
        create trigger refuse before update or delete on graphile_worker.{table}
        for each row execute function public.refuse_{table}()
    """)


async def hold(database: Database, count: int, age: str = "1 day") -> list[int]:
    """Have a worker hold jobs, each of a queue of its own."""
    for number in range(count):
        await database.execute(
            "select from graphile_worker.add_job('a', queue_name => $1::text)", f"q{number}"
        )
    jobs = await claims.get_jobs(database, ME, ["a"], count)
    for table in ("_private_jobs", "_private_job_queues"):
        await database.execute(
            f"update graphile_worker.{table} set locked_at = now() - $1::text::interval", age
        )
    return sorted(job.id for job in jobs)


async def locked(database: Database) -> tuple[list[int], list[str]]:
    jobs = await database.fetch("""
        select id from graphile_worker._private_jobs where locked_at is not null order by id
    """)
    queues = await database.fetch("""
        select queue_name from graphile_worker._private_job_queues where locked_at is not null order by 1
    """)
    return [row["id"] for row in jobs], [row["queue_name"] for row in queues]


@pytest.mark.parametrize("way", ["sweep", "reset", "reconcile"])
async def test_only_what_is_refused_stays_locked(
    database: Database, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """A job keeps its queue; and a queue that is refused keeps nothing but itself."""
    ids = await hold(database, 9)
    await refuse(database, f"old.id = {ids[4]}")
    await refuse(database, "old.queue_name = 'q7'", "_private_job_queues")
    match way:
        case "sweep":
            report = await sweeps.sweep(database, SweepOptions())
            assert report.recovered_jobs == 8
        case "reset":
            assert (await stale_locks.reset_stale_locks(database)).jobs == 8
        case _:
            assert await unknown_locks.reconcile(database, ME, []) == {*ids} - {ids[4]}
    jobs, queues = await locked(database)
    assert jobs == [ids[4]]
    assert "q7" in queues
    assert queues in (["q4", "q7"], ["q7"])
    assert f"row {ids[4]} is refused" in caplog.text


async def test_locks_are_renewed_beside_one_that_is_refused(database: Database) -> None:
    """It is ours all the same."""
    await database.execute("select graphile_worker.add_job('a') from generate_series(1, 5)")
    held = await claims.get_jobs(database, ME, ["a"], 5)
    await database.execute("update graphile_worker._private_jobs set locked_at = now() - interval '1 hour'")
    await refuse(database, f"old.id = {held[2].id}")
    renewal = await worker_registry.renew(database, ME, held)
    assert (renewal.lost, renewal.detached) == (frozenset(), frozenset())
    old = await database.fetch("""
        select id from graphile_worker._private_jobs where locked_at < now() - interval '1 minute'
    """)
    assert [row["id"] for row in old] == [held[2].id]


async def test_an_error_that_is_not_of_a_row_is_raised() -> None:
    asked: list[Sequence[int]] = []

    async def write(part: Sequence[int]) -> list[int]:
        asked.append(part)
        raise StatementFailed("permission denied", sqlstate="42501")

    with pytest.raises(StatementFailed, match="permission denied"):
        await in_halves(write, [1, 2, 3, 4])
    assert asked == [[1, 2, 3, 4], [1, 2], [1], []]


async def test_what_passes_is_raised_at_once_and_what_takes_too_long_is_halved() -> None:
    async def deadlock(part: Sequence[int]) -> list[int]:
        raise StatementFailed("deadlock detected", sqlstate="40P01")

    async def slow(part: Sequence[int]) -> Sequence[int]:
        if len(part) > 2:
            raise StatementFailed("canceling statement due to statement timeout", sqlstate="57014")
        return part

    with pytest.raises(StatementFailed, match="deadlock"):
        await in_halves(deadlock, [1, 2])
    assert await in_halves(slow, [1, 2, 3, 4, 5]) == ([1, 2, 3, 4, 5], [])


# --- bytes that are no text ---------------------------------------------------------------------


@pytest.fixture
async def careless(postgres: PostgresServer) -> AsyncIterator[Database]:
    """Lend a database that takes any bytes for text."""
    name = f"careless_{os.urandom(6).hex()}"
    async with open_database(postgres.url) as server:
        await server.execute(
            f"create database {name} encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0"
        )
        try:
            url = urlsplit(postgres.url)._replace(path=f"/{name}").geturl()
            async with open_database(url) as database:
                await Client(database).migrate()
                yield database
        finally:
            await server.execute(f"drop database {name}")  # noqa: ASYNC102  # bounded inside


@pytest.mark.parametrize("column", ["payload", "queue_name", "key"])
async def test_a_job_that_nobody_can_read_fails_and_others_are_claimed(
    careless: Database, column: str
) -> None:
    latin = r"convert_from('\x636166e9'::bytea, 'SQL_ASCII')"
    argument = {
        "payload": f"payload => ('\"' || {latin} || '\"')::json",
        "queue_name": f"queue_name => {latin}",
        "key": f"job_key => {latin}",
    }[column]
    await careless.execute(f"select from graphile_worker.add_job('a', {argument})")
    good = await careless.fetch_value("select id from graphile_worker.add_job('a')")
    with pytest.raises(StatementFailed) as raised:
        await claims.get_jobs(careless, ME, ["a"], 10)
    assert unreadable.is_unreadable(raised.value)
    assert await unreadable.fail_unreadable(careless, ["a"])
    assert [job.id for job in await claims.get_jobs(careless, ME, ["a"], 10)] == [good]
    assert not await unreadable.fail_unreadable(careless, ["a"])
    [failed] = await careless.fetch("""
        select attempts = max_attempts as is_failed, last_error
        from graphile_worker._private_jobs
        where locked_at is null
    """)
    assert failed["is_failed"]
    assert "UTF-8" in failed["last_error"]


async def test_a_job_whose_last_error_alone_nobody_can_read_is_run(careless: Database) -> None:
    job_id = await careless.fetch_value("select id from graphile_worker.add_job('a')")
    await careless.execute(r"""
        update graphile_worker._private_jobs
        set last_error = convert_from('\x636166e9'::bytea, 'SQL_ASCII')
    """)
    assert await unreadable.fail_unreadable(careless, ["a"])
    assert [job.id for job in await claims.get_jobs(careless, ME, ["a"], 10)] == [job_id]


async def test_a_job_that_nobody_can_read_ends_no_list(careless: Database) -> None:
    """Bytes that are no text are shown as numbers, the payload not at all."""
    latin = r"convert_from('\x636166e9'::bytea, 'SQL_ASCII')"
    await careless.execute("select from graphile_worker.add_job('a', job_key => 'before')")
    await careless.execute(f"""
        select from graphile_worker.add_job(
          {latin}, payload => ('"' || {latin} || '"')::json, queue_name => {latin}, job_key => {latin},
          flags => array[{latin}]
        )
    """)
    await careless.execute(f"""
        update graphile_worker._private_jobs
        set last_error = {latin}, locked_by = {latin}, locked_at = now()
        where key <> 'before'
    """)
    await careless.execute("select from graphile_worker.add_job('a', job_key => 'after')")
    before, unreadable_one, after = (await find_jobs(careless, JobSearch())).jobs
    assert (before.listed.job.key, after.listed.job.key) == ("before", "after")
    assert not unreadable_one.has_payload
    job = unreadable_one.listed.job
    shown = {job.task_identifier, job.queue_name, job.key, job.last_error, job.locked_by}
    assert shown == {r"caf\351"}
    assert len((await find_jobs(careless, JobSearch(text="caf"))).jobs) == 1
