"""The pool: what a borrower leaves on a session is nobody else's, and closing takes a second at most."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import AsyncIterator

import asyncpg  # type: ignore[import-untyped]
import pytest
import trio

from tests.database.sessions import wait_until_active
from tests.faults.network import open_proxy
from trio_graphile import (
    Client,
    ConnectionLost,
    Database,
    DatabaseClosed,
    DatabaseOptions,
    StatementFailed,
    open_database,
)
from trio_graphile._database.statement import may_change_session
from trio_graphile._exceptions import SessionsBusy
from trio_graphile.embedded import embedded_postgres

pytestmark = pytest.mark.everywhere  # the bridge to asyncio relies on what Python keeps private

CHANGES = [
    "begin",
    "begin; insert into nowhere values (1); commit",
    "create table left_behind (n integer); begin",
    "set role pg_read_all_data",
    "set search_path to nowhere",
    "select set_config('search_path', 'nowhere', false)",
    "create temporary table jobs (n integer)",
    "prepare query as select 1",
    "deallocate all",
    "discard all",
    "listen channel",
    "select pg_advisory_lock(1)",
    "-- harmless\nset role pg_read_all_data",
]
PLAIN = [
    "select 1",
    "insert into nowhere values (1)",
    "with found as (select 1) select * from found",
    "update nowhere set begin = 'begin'",
    "create table settings (template text)",
    "notify channel",
    "select pg_advisory_xact_lock_not_mentioned()",
]


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Database]:
    """A database with one session."""
    async with open_database(database_url, DatabaseOptions(pool_size=1)) as database:
        yield database


@pytest.mark.parametrize("sql", CHANGES)
async def test_a_session_that_a_statement_changed_is_not_lent_again(
    sql: str, one: Database, database: Database
) -> None:
    process = await one.fetch_value("select pg_backend_pid()")
    with contextlib.suppress(StatementFailed):
        await one.execute(sql)
    await Client(one).add_raw_job("a")
    assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 1
    assert await one.fetch_value("select pg_backend_pid()") != process


async def test_a_session_that_a_statement_left_as_it_was_is_lent_again(one: Database) -> None:
    process = await one.fetch_value("select pg_backend_pid()")
    await one.execute("create table notes (n integer)")
    await one.execute("insert into notes values ($1::integer)", 1)
    with pytest.raises(StatementFailed):
        await one.execute("insert into nowhere values (1)")
    await Client(one).add_raw_job("a")
    assert await one.fetch_value("select pg_backend_pid()") == process


def test_what_may_change_a_session_is_told_by_its_text() -> None:
    assert [sql for sql in CHANGES if not may_change_session(sql)] == []
    assert [sql for sql in PLAIN if may_change_session(sql)] == []


async def test_a_role_that_a_borrower_took_is_not_the_next_ones(one: Database) -> None:
    async with one.connection() as connection:
        await connection.execute("set role pg_read_all_data")
    async with one.connection() as connection:
        assert await connection.fetch_value("select current_user = session_user")


async def test_a_begin_that_is_refused_leaves_the_session_as_it_was() -> None:
    """A hot standby refuses serializable transactions."""
    async with embedded_postgres(settings={"hot_standby": "on", "wal_level": "replica"}) as server:
        await server.stop()
        (server.directory / "data" / "standby.signal").touch()
        await server.start()
        async with open_database(server.url, DatabaseOptions(pool_size=1)) as database:
            process = await database.fetch_value("select pg_backend_pid()")
            for _ in range(2):
                with pytest.raises(StatementFailed, match="hot standby"):
                    async with database.transaction("serializable"):
                        pytest.fail("there is no transaction")
            async with database.transaction() as connection:
                assert await connection.fetch_value("select pg_backend_pid()") == process


async def test_a_connection_that_is_adopted_often_keeps_nothing_of_it(
    database: Database, database_url: str
) -> None:
    bare = await database.run_asyncio(asyncpg.connect, database_url)
    adopted = weakref.ref(database.adopt(bare))
    gc.collect()
    assert adopted() is None
    await database.run_asyncio(bare.close)


# --- closing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.2, 60])
async def test_a_statement_that_outlives_its_database_ends(
    seconds: float, database: Database, database_url: str
) -> None:
    """It is given a moment, then its session is cut off; it is not left waiting for ever."""
    ends: list[object] = []

    async def use(short: Database) -> None:
        try:
            async with short.transaction() as connection:
                ends.append(await connection.fetch_value("select 1 from pg_sleep($1::float8)", seconds))
        except ConnectionLost as error:
            ends.append(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as outer, open_database(database_url) as short:
            outer.start_soon(use, short)  # noqa: ASYNC111  # that is what is tested
            await wait_until_active(database, "%pg_sleep%")
    [end] = ends
    assert isinstance(end, ConnectionLost) if seconds == 60 else end == 1


async def test_a_statement_elsewhere_ends_at_once_when_its_database_is_cancelled(database: Database) -> None:
    ends: list[BaseException] = []

    async def use(short: Database) -> None:
        try:
            await short.fetch_value("select 1 from pg_sleep(60)")
        except ConnectionLost as error:
            ends.append(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:

            async def lend() -> None:
                async with database.beside("a", pool_size=1, statement_timeout=60, read_only=False) as short:
                    outer.start_soon(use, short)  # noqa: ASYNC111  # that is what is tested
                    await trio.sleep_forever()

            inner.start_soon(lend)
            await wait_until_active(database, "%pg_sleep%")
            inner.cancel_scope.cancel()
    assert len(ends) == 1


async def test_who_waits_for_a_session_beside_is_told_that_all_are_busy(database: Database) -> None:
    async with database.beside("one", pool_size=1, statement_timeout=1.0, read_only=False) as one:
        with trio.fail_after(20):
            async with one.connection():
                with pytest.raises(SessionsBusy, match="no session was free"):
                    await one.fetch_value("select 1")
            assert await one.fetch_value("select 1") == 1


async def test_a_database_that_is_closed_says_so(database_url: str) -> None:
    async with open_database(database_url, DatabaseOptions(pool_size=1)) as database:
        pass
    with pytest.raises(DatabaseClosed, match="open_database has ended"):
        await database.fetch_value("select 1")
    with pytest.raises(DatabaseClosed):
        async with database.transaction():
            pytest.fail("there is no transaction")
    with pytest.raises(DatabaseClosed):
        await database.open_session("test", cancel_timeout=1)


async def test_ten_idle_sessions_are_closed_at_once_though_nothing_passes(database_url: str) -> None:
    async with open_proxy(database_url) as proxy:
        async with open_database(proxy.url, DatabaseOptions(pool_size=10)) as database:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(10):
                    await stack.enter_async_context(database.connection())
            proxy.swallow()
            began = trio.current_time()
        assert trio.current_time() - began < 5, "one after the other it took ten seconds"
