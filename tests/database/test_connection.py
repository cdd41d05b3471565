"""The bridge's contract: statements are atomic under cancellation, bounded, and nothing leaks."""

from __future__ import annotations

import _weakrefset
import functools
import os
import random
import signal
import socket
import sys
import types
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]
import pytest
import trio
import trio_asyncio  # type: ignore[import-untyped]

from tests.database.sessions import set_default_isolation
from tests.support.waiting import PATIENCE
from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database, open_database
from trio_graphile._exceptions import (
    ConnectionLost,
    DatabaseRefused,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    OptionInvalid,
    StatementFailed,
)
from trio_graphile._model.options import DatabaseOptions

pytestmark = pytest.mark.everywhere  # the bridge to asyncio relies on what Python keeps private


@pytest.fixture
async def pool_of_five(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url, DatabaseOptions(pool_size=5)) as database:
        yield database


COUNT_BACKENDS = """
    select count(*)
    from pg_stat_activity
    where datname = current_database()
      and backend_type = 'client backend'
      and state like $1::text
"""


async def wait_for_backends(database: Database, state: str, count: int) -> None:
    """Wait until so many are left in a state: the server may take a moment to notice the end of a session."""
    with trio.fail_after(PATIENCE):
        while await database.fetch_value(COUNT_BACKENDS, state) != count:
            pass


async def test_three_hundred_random_cancellations_leave_a_pool_of_five_whole(pool_of_five: Database) -> None:
    async def borrower() -> None:
        with trio.move_on_after(random.uniform(0, 0.08)):
            async with pool_of_five.transaction() as connection:
                await connection.execute("select pg_sleep(0.02)")

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(borrower)

    await wait_for_backends(pool_of_five, "idle in transaction%", 0)
    everybody_in = trio.Event()
    inside = 0

    async def hold() -> None:
        nonlocal inside
        async with pool_of_five.connection() as connection:
            await connection.fetch_value("select 1")
            inside += 1
            if inside == 5:
                everybody_in.set()
            await everybody_in.wait()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(hold)
    await wait_for_backends(pool_of_five, "%", 5)


async def test_a_statement_that_returned_took_effect_and_one_that_was_cancelled_did_not(
    pool_of_five: Database,
) -> None:
    await pool_of_five.execute("create table marks (mark integer)")
    returned = set()
    for mark in range(400):
        with trio.move_on_after(random.uniform(0, 0.003)):
            await pool_of_five.execute(
                "insert into marks select $1::integer from (select pg_sleep(0.001)) as nap", mark
            )
            returned.add(mark)
    stored = {row["mark"] for row in await pool_of_five.fetch("select mark from marks")}
    assert stored == returned


async def test_a_cancelled_statement_is_interrupted_on_the_server(pool_of_five: Database) -> None:
    with trio.fail_after(10), trio.move_on_after(0.05) as scope:
        await pool_of_five.execute("select pg_sleep(60)")
    assert scope.cancelled_caught
    await wait_for_backends(pool_of_five, "active", 1)  # the one that asks
    assert await pool_of_five.fetch_value("select 1") == 1


async def test_nothing_is_sent_once_cancelled(pool_of_five: Database) -> None:
    await pool_of_five.execute("create table marks (mark integer)")
    async with pool_of_five.connection() as connection:
        with trio.move_on_after(0):
            await connection.execute("insert into marks values (1)")
    assert await pool_of_five.fetch_value("select count(*) from marks") == 0


async def test_a_commit_that_was_sent_is_waited_for_and_a_cancelled_body_is_rolled_back(
    pool_of_five: Database,
) -> None:
    await pool_of_five.execute("create table marks (mark integer)")
    entered_after: list[int] = []
    for mark in range(100):
        with trio.move_on_after(random.uniform(0, 0.004)):
            async with pool_of_five.transaction() as connection:
                await connection.execute("insert into marks values ($1::integer)", mark)
            entered_after.append(mark)
    stored = [row["mark"] for row in await pool_of_five.fetch("select mark from marks order by mark")]
    assert set(entered_after) <= set(stored)
    await wait_for_backends(pool_of_five, "idle in transaction%", 0)


ADVISORY_LOCKS = """
    select count(*)
    from pg_locks
    where locktype = 'advisory'
      and database = (select oid from pg_database where datname = current_database())
"""


async def test_what_a_borrower_leaves_on_a_session_is_undone(empty_database_url: str) -> None:
    async with open_database(empty_database_url, DatabaseOptions(pool_size=1)) as database:
        async with database.connection() as connection:
            await connection.execute("set application_name = 'borrower'; select pg_advisory_lock(1); begin")
        async with database.connection() as connection:
            assert not connection.is_in_transaction
            assert await connection.fetch_value("show application_name") == "trio_graphile"
        assert await database.fetch_value(ADVISORY_LOCKS) == 0


async def test_a_transaction_inside_a_transaction_is_a_savepoint(pool_of_five: Database) -> None:
    await pool_of_five.execute("create table marks (mark integer)")
    async with pool_of_five.transaction() as connection:
        await connection.execute("insert into marks values (1)")

        async def insert_and_fail() -> None:
            async with connection.transaction():
                await connection.execute("insert into marks values (2)")
                raise KeyError

        with pytest.raises(KeyError):
            await insert_and_fail()
    assert [row["mark"] for row in await pool_of_five.fetch("select mark from marks")] == [1]


@pytest.mark.parametrize("prepared_statements", [True, False])
async def test_our_own_transactions_are_read_committed_whatever_the_default(
    pool_of_five: Database, empty_database_url: str, *, prepared_statements: bool
) -> None:
    show = "show transaction_isolation"
    await set_default_isolation(pool_of_five, "serializable")
    options = DatabaseOptions(prepared_statements=prepared_statements)
    async with open_database(empty_database_url, options) as database:
        async with aclosing(await database.open_session("test", cancel_timeout=1.0)) as session:
            assert await session.fetch_value(show) == "read committed"
        async with brief_transaction(database) as connection:
            assert await connection.fetch_value(show) == "read committed"
        async with database.transaction() as connection, brief_transaction(connection):
            assert await connection.fetch_value(show) == "serializable"
            assert await connection.default_isolation() == "serializable"


async def test_a_refused_statement_names_its_sqlstate_and_constraint(pool_of_five: Database) -> None:
    await pool_of_five.execute("create table marks (mark integer constraint positive check (mark > 0))")
    with pytest.raises(StatementFailed) as caught:
        await pool_of_five.execute("insert into marks values (0)")
    assert (caught.value.sqlstate, caught.value.constraint) == ("23514", "positive")
    assert not caught.value.transient


async def test_a_statement_timeout_is_transient_and_the_session_stays_usable(empty_database_url: str) -> None:
    options = DatabaseOptions(pool_size=1, statement_timeout=0.05)
    async with open_database(empty_database_url, options) as database:
        process = await database.fetch_value("select pg_backend_pid()")
        with pytest.raises(StatementFailed) as caught:
            await database.execute("select pg_sleep(30)")
        assert caught.value.sqlstate == "57014"
        assert caught.value.transient
        assert await database.fetch_value("select pg_backend_pid()") == process


async def test_a_session_killed_during_a_statement_is_lost_and_replaced(pool_of_five: Database) -> None:
    async with pool_of_five.connection() as connection:
        process = await connection.fetch_value("select pg_backend_pid()")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool_of_five.execute, "select pg_terminate_backend($1::integer)", process)
            with pytest.raises(ConnectionLost) as caught:
                await connection.execute("select pg_sleep(30)")
        assert caught.value.transient
        with trio.fail_after(5):
            await connection.wait_closed()
        assert connection.is_closed
    assert await pool_of_five.fetch_value("select 1") == 1


async def test_a_server_that_stopped_answering_costs_only_the_patience(empty_database_url: str) -> None:
    """The backend is frozen, so no CancelRequest helps: the session is cut off."""
    async with open_database(empty_database_url, DatabaseOptions(pool_size=2)) as database:
        async with database.connection() as connection:
            process = await connection.fetch_value("select pg_backend_pid()")
            if not _is_ours(process):
                pytest.skip("the server runs elsewhere")
            os.kill(process, signal.SIGSTOP)
            try:
                with trio.fail_after(10), trio.move_on_after(0.05) as scope:
                    await connection.execute("select 1")
                assert scope.cancelled_caught
                assert connection.is_closed
            finally:
                os.kill(process, signal.SIGCONT)
        assert await database.fetch_value("select 1") == 1


def _is_ours(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


async def test_notifications_arrive_with_their_payload(pool_of_five: Database) -> None:
    send, receive = trio.open_memory_channel[str](10)
    async with pool_of_five.connection() as connection:
        await connection.listen("a:channel", send.send_nowait)
        await pool_of_five.execute("select pg_notify('a:channel', 'hello')")
        with trio.fail_after(5):
            assert await receive.receive() == "hello"


async def test_json_columns_come_and_go_as_values(pool_of_five: Database) -> None:
    value = {"a": [1, None, 1.5, "é"], "big": 2**70}
    assert await pool_of_five.fetch_value("select $1::json", value) == value
    assert await pool_of_five.fetch_value("""select '{"n": 1e400}'::json""") == {"n": float("inf")}


async def test_without_prepared_statements_nothing_is_left_on_the_session(empty_database_url: str) -> None:
    async with open_database(
        empty_database_url, DatabaseOptions(pool_size=1, prepared_statements=False)
    ) as database:
        assert await database.fetch_value("select $1::integer + 1", 1) == 2
        assert await database.fetch_value("select count(*) from pg_prepared_statements where name <> ''") == 0
        assert await database.fetch_value("show statement_timeout") == "0"


async def test_without_prepared_statements_a_statement_that_is_cut_off_locks_nothing_for_long(
    empty_database_url: str,
) -> None:
    """Each needs a transaction then, and the commit may never arrive."""
    name = "idle_in_transaction_session_timeout"
    async with open_database(
        empty_database_url, DatabaseOptions(pool_size=1, prepared_statements=False)
    ) as database:
        await database.execute("create table notes (n integer unique)")
        assert await database.fetch_value(f"show {name}") == "30s"
        assert await database.fetch_value("insert into notes values ($1::integer) returning n", 1) == 1
        with pytest.raises(StatementFailed):
            await database.execute("insert into notes values ($1::integer)", 1)
        assert await database.fetch_value("select count(*) from notes") == 1
        async with database.transaction() as connection:
            assert await connection.fetch_value(f"show {name}") == "0", "a user's own may be idle"


async def test_the_server_notices_a_machine_that_vanished(pool_of_five: Database) -> None:
    rows = await pool_of_five.fetch("""
        select name, reset_val from pg_settings where name like 'tcp%' and source = 'client'
    """)
    assert {row["name"]: row["reset_val"] for row in rows} == {
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "60000",
    }


async def test_a_session_that_the_server_ended_for_its_idle_transaction_is_lost(
    pool_of_five: Database,
) -> None:
    async with pool_of_five.connection() as connection:
        await connection.execute("begin; set local idle_in_transaction_session_timeout = '1ms'")
        await connection.wait_closed()
        with pytest.raises(ConnectionLost):
            await connection.execute("commit")


@pytest.mark.parametrize("sqlstate", ["25P03", "25P04", "57P01", "57P05"])
async def test_what_the_server_says_before_it_hangs_up_is_a_loss(
    sqlstate: str, empty_database_url: str
) -> None:
    async with open_database(empty_database_url) as database:
        with pytest.raises(ConnectionLost) as caught:
            await database.execute(f"do $$ begin raise exception using errcode = '{sqlstate}'; end $$")
        assert caught.value.sqlstate == sqlstate


async def test_a_statement_calls_nothing_that_may_lose_an_interrupt(pool_of_five: Database) -> None:
    """Python drops what is raised in the callback of a weak reference: Ctrl-C would have done nothing."""
    unprotected: list[types.FrameType] = []

    def watch(frame: types.FrameType, event: str, _: object) -> None:
        is_callback = (frame.f_code.co_filename, frame.f_code.co_name) == (_weakrefset.__file__, "_remove")
        if event == "call" and is_callback and not trio.lowlevel.currently_ki_protected():
            unprotected.append(frame)

    await pool_of_five.fetch_value("select 1")
    sys.setprofile(watch)
    try:
        await pool_of_five.fetch_value("select 1")
    finally:
        sys.setprofile(None)
    assert not unprotected


async def test_an_asyncio_loop_that_is_open_is_shared(empty_database_url: str) -> None:
    async with trio_asyncio.open_loop():
        bare = await trio_asyncio.aio_as_trio(asyncpg.connect)(empty_database_url)
        async with open_database(empty_database_url) as database:
            assert await database.adopt(bare).fetch_value("select 1") == 1
        await trio_asyncio.aio_as_trio(bare.close)()


async def test_a_session_of_a_user_may_have_timeouts_of_its_own(empty_database_url: str) -> None:
    """The next statement is sent before the callbacks of the last one's answer are called."""
    async with open_database(empty_database_url) as database:
        connect = functools.partial(asyncpg.connect, empty_database_url, command_timeout=60)
        bare = await database.run_asyncio(connect)
        adopted = database.adopt(bare)
        for n in range(100):
            assert await adopted.fetch_value("select $1::integer", n) == n
        await database.run_asyncio(bare.close)


async def test_a_task_that_knows_no_asyncio_loop_can_use_the_database(empty_database_url: str) -> None:
    """A nursery opened before the database: its children have no loop in their context."""
    send, receive = trio.open_memory_channel[Database](0)

    async def outsider() -> None:
        database = await receive.receive()
        assert await database.fetch_value("select 1") == 1
        done.set()

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outsider)
        async with open_database(empty_database_url) as database:
            await send.send(database)
            await done.wait()


async def test_an_error_of_the_body_comes_out_as_it_is(empty_database_url: str) -> None:
    with pytest.raises(KeyError):
        async with open_database(empty_database_url):
            raise KeyError
    group = ExceptionGroup("the body's own", [KeyError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_database(empty_database_url):
            raise group
    assert caught.value is group


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("nonsense", DatabaseUrlInvalid, "looks like postgresql://"),
        ("mysql://root@localhost/db", DatabaseUrlInvalid, "looks like postgresql://"),
        ("postgresql://someone:secret@127.0.0.1:port/db", DatabaseUrlInvalid, "looks like postgresql://"),
        ("postgresql://someone:secret/more@127.0.0.1/db", DatabaseUrlInvalid, "%2F"),
        ("postgresql://someone:12/secret@127.0.0.1/db", DatabaseUrlInvalid, "%2F"),
        ("postgresql://someone:12?secret@127.0.0.1/db", DatabaseUrlInvalid, "%3F"),
        ("postgresql://someone:12#secret@127.0.0.1/db", DatabaseUrlInvalid, "%23"),
    ],
)
async def test_a_wrong_url_is_refused_with_an_example(url: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        async with open_database(url):
            pass
    assert "secret" not in str(caught.value)


async def test_no_url_at_all_says_where_one_can_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DatabaseUrlInvalid, match="DATABASE_URL"):
        async with open_database():
            pass


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_server_that_is_down_is_a_clear_error_within_seconds(closed_port: int) -> None:
    with trio.fail_after(5), pytest.raises(DatabaseUnavailable, match="cannot reach PostgreSQL") as caught:
        async with open_database(f"postgresql://someone:secret@127.0.0.1:{closed_port}/db"):
            pass
    assert "secret" not in str(caught.value)
    assert str(closed_port) in str(caught.value)


async def test_a_server_that_accepts_and_says_nothing_is_given_up(nursery: trio.Nursery) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    serve = partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1")
    listeners: list[trio.SocketListener] = await nursery.start(serve)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(5), pytest.raises(DatabaseUnavailable, match="cannot reach PostgreSQL"):
        async with open_database(f"postgresql://x@127.0.0.1:{port}/x", DatabaseOptions(connect_timeout=0.1)):
            pass


async def test_a_server_that_comes_up_later_is_waited_for_if_asked(
    empty_database_url: str, closed_port: int, nursery: trio.Nursery
) -> None:
    """Nothing listens at first; a relay to the real server starts after the first attempt failed."""
    path = await _socket_path(empty_database_url)
    if path is None:
        pytest.skip("the server is not behind a unix socket")

    async def relay(client: trio.SocketStream) -> None:
        async with client, await trio.open_unix_socket(path) as server, trio.open_nursery() as both:

            async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
                async for chunk in source:
                    await target.send_all(chunk)
                both.cancel_scope.cancel()

            both.start_soon(pump, client, server)
            both.start_soon(pump, server, client)

    async def start_relay() -> None:
        await trio.serve_tcp(relay, closed_port, host="127.0.0.1", task_status=started)

    database_name = urlsplit(empty_database_url).path.removeprefix("/")
    options = DatabaseOptions(wait_for_server=20.0)
    url = f"postgresql://postgres@127.0.0.1:{closed_port}/{database_name}"
    with pytest.raises(DatabaseUnavailable):
        async with open_database(url):
            pass
    started = trio.TASK_STATUS_IGNORED
    nursery.start_soon(start_relay)
    async with open_database(url, options) as database:
        assert await database.fetch_value("select 1") == 1


async def _socket_path(url: str) -> str | None:
    query = url.partition("?")[2]
    values = dict(item.split("=") for item in query.split("&") if item)
    host = values.get("host", "").replace("%2F", "/")
    return f"{host}/.s.PGSQL.{values.get('port', '5432')}" if host.startswith("/") else None


async def test_a_database_that_does_not_exist_is_refused_at_once(empty_database_url: str) -> None:
    url = urlsplit(empty_database_url)._replace(path="/nowhere").geturl()
    options = DatabaseOptions(wait_for_server=60)
    with pytest.raises(DatabaseRefused, match="does not exist"):
        async with open_database(url, options):
            pass


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64])
async def test_a_schema_name_that_cannot_be_is_refused(empty_database_url: str, name: str) -> None:
    with pytest.raises(OptionInvalid, match="schema"):
        async with open_database(empty_database_url, DatabaseOptions(schema=name)):
            pass


async def test_a_foreign_object_is_no_connection(pool_of_five: Database) -> None:
    with pytest.raises(TypeError, match="asyncpg"):
        pool_of_five.adopt(object())


async def test_a_transaction_on_a_session_that_was_lost_is_refused_as_any_statement(
    connection: Connection,
) -> None:
    connection.terminate()
    with pytest.raises(ConnectionLost):
        async with connection.transaction():
            pytest.fail("there is no transaction")
