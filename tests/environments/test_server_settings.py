"""Servers whose administrators have set them up in ways of their own: a queue lives there as anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.faults.load import Load, check_nothing_locked, drain
from tests.support.waiting import PATIENCE
from tests.support.workers import running
from trio_graphile import (
    Client,
    Database,
    DatabaseOptions,
    DatabaseUnavailable,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile._database.connection import Connection
from trio_graphile.embedded import PostgresServer, embedded_postgres
from trio_graphile.testing import TemplateDatabases, embedded_postgres_in_thread

IDLE = 0.6
"""How long a worker has nothing to do: longer than the timeouts that are set below."""
SETTINGS = [
    ("statement_timeout", "1s"),
    ("lock_timeout", "50ms"),
    ("idle_session_timeout", "300ms"),
    ("idle_in_transaction_session_timeout", "300ms"),
    ("transaction_timeout", "500ms"),
    ("default_transaction_isolation", "serializable"),
    ("TimeZone", "Pacific/Chatham"),
    ("search_path", ""),
]
HABITS = [
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_deferrable", "on"),
    ("DateStyle", "German"),
    ("IntervalStyle", "sql_standard"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("client_encoding", "LATIN1"),
    ("search_path", "extensions"),
    ("default_toast_compression", "pglz"),
    ("plan_cache_mode", "force_custom_plan"),
    ("synchronous_commit", "off"),
    ("session_replication_role", "replica"),
]
TEXT = "grüße"
FOREIGN = "漢字 😀"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with embedded_postgres_in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def databases_there(server: PostgresServer) -> TemplateDatabases:
    return TemplateDatabases(server.url)


@pytest.fixture
async def database_there(databases_there: TemplateDatabases) -> AsyncIterator[str]:
    async with databases_there.clone() as url:
        yield url


async def live(url: str, options: DatabaseOptions) -> None:
    """Run jobs of all kinds, be idle, and run some more; afterwards nothing is left."""
    load = Load()
    async with open_database(url, options) as database:
        client = Client(database, load.tasks)
        worker = Worker(database, load.tasks, WorkerOptions(concurrency=4, poll_interval=0.1))
        async with running(worker):
            await load.add(client)
            await drain(database)
            await trio.sleep(IDLE)  # so that timeouts strike, not a wait for anything
            await load.add(client)
            await drain(database)
        await check_nothing_locked(database)
    load.check()


async def live_with(databases: TemplateDatabases, name: str, value: str, *, pooled: bool) -> None:
    """Live in a database with such a setting, and an extension in a schema of its own."""
    async with databases.clone() as url:
        async with open_database(url) as database:
            if not await database.fetch_value("select current_setting($1::text, true) is not null", name):
                pytest.skip("this version of the server has no such setting")
            this = await database.fetch_value("select current_database()")
            await database.execute("create schema extensions; create extension citext schema extensions")
            await database.execute(f"alter database {this} set {name} = '{value}'")
        await live(url, DatabaseOptions(pooled=pooled))


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
@pytest.mark.parametrize(("name", "value"), SETTINGS)
async def test_a_queue_lives_whatever_is_set(
    databases_there: TemplateDatabases, name: str, value: str, *, pooled: bool
) -> None:
    await live_with(databases_there, name, value, pooled=pooled)


@pytest.mark.exhaustive
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
@pytest.mark.parametrize(("name", "value"), HABITS)
async def test_a_queue_lives_whatever_habits_are_set(
    databases_there: TemplateDatabases, name: str, value: str, *, pooled: bool
) -> None:
    await live_with(databases_there, name, value, pooled=pooled)


# --- addresses ----------------------------------------------------------------------------------


async def test_a_server_may_have_an_address_of_ipv6(server: PostgresServer, database_there: str) -> None:
    try:
        listeners = await trio.open_tcp_listeners(0, host="::1")
    except OSError as error:
        pytest.skip(f"there is no IPv6 here: {error}")
    port = listeners[0].socket.getsockname()[1]
    path = urlsplit(database_there).path
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(relay, server), listeners)
        await live(f"postgresql://postgres@[::1]:{port}{path}", DatabaseOptions())
        nursery.cancel_scope.cancel()


async def relay(server: PostgresServer, client: trio.SocketStream) -> None:
    """Stand between a client and the socket of a server, which listens on no address of IPv6 itself."""
    path = f"{server.socket_directory}/.s.PGSQL.{server.tcp_port or 5432}"
    async with await trio.open_unix_socket(path) as session, trio.open_nursery() as nursery:
        nursery.start_soon(pump, client, session)
        await pump(session, client)
        nursery.cancel_scope.cancel()


async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
    try:
        while chunk := await source.receive_some():
            await target.send_all(chunk)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await target.aclose()


# --- encodings ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def encoded(server: PostgresServer, encoding: str) -> AsyncIterator[Database]:
    """Make a database in an encoding, with our schema."""
    name = f"in_{encoding.lower()}"
    async with open_database(server.url) as outside:
        await outside.execute(
            f"create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"
        )
        try:
            async with open_database(server.url_for(name)) as database:
                await Client(database, TaskRegistry()).migrate()
                yield database
        finally:
            await outside.execute(f"drop database {name} with (force)")  # noqa: ASYNC102  # bounded inside


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
async def test_texts_come_and_go_in_each_encoding(server: PostgresServer, encoding: str) -> None:
    """What of an error the database cannot store is recorded in another way; no job stays locked for it."""
    tasks, text = TaskRegistry(), TEXT if encoding != "EUC_JP" else FOREIGN[:2]
    heard: list[str] = []

    @tasks.task("say")
    async def say(payload: str) -> None:
        heard.append(payload)

    @tasks.task("fail")
    async def fail(payload: str) -> None:
        raise ValueError(payload + FOREIGN)

    async with encoded(server, encoding) as database:
        client = Client(database, tasks)
        await client.add_raw_job("say", text)
        await client.add_raw_job("fail", text)
        await Worker(database, tasks).run_once()
        assert heard == [text]
        [row] = await database.fetch("select last_error, locked_by from graphile_worker._private_jobs")
        assert row["locked_by"] is None
        assert "ValueError" in row["last_error"]


# --- too many sessions --------------------------------------------------------------------------


async def test_a_server_without_a_session_to_spare_is_waited_for() -> None:
    load = Load()
    few = {"max_connections": "14", "superuser_reserved_connections": "0"}
    async with embedded_postgres(settings=few) as server, open_database(server.url) as database:
        await Client(database, load.tasks).migrate()
        options = WorkerOptions(concurrency=4, poll_interval=0.1)
        async with (
            open_database(server.url, DatabaseOptions(pool_size=2, connect_timeout=1.0)) as own,
            running(Worker(own, load.tasks, options)),
        ):
            await database.execute(END_OTHERS)
            taken = await take_all(database)
            await load.add(Client(database, load.tasks))
            for session in taken:
                session.terminate()
            await drain(database)
        await check_nothing_locked(database)
    load.check()


async def take_all(database: Database) -> list[Connection]:
    """Take all sessions of the server that are free."""
    taken: list[Connection] = []
    with trio.fail_after(PATIENCE), contextlib.suppress(DatabaseUnavailable):
        while True:
            taken.append(await database.open_session("taken", cancel_timeout=1.0))
    return taken


END_OTHERS = """
    select count(pg_terminate_backend(pid))
    from pg_stat_activity
    where application_name like 'trio_graphile %'
"""
