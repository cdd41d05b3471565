"""Which errors of the driver mean that a session is lost, and which that a statement was refused."""

from __future__ import annotations

import contextlib

import pytest
import trio

from tests.faults.network import connect_to_server, url_by_way_of
from trio_graphile import ConnectionLost, Database, StatementFailed, open_database
from trio_graphile._database.connection import Connection
from trio_graphile._database.driver.libraries import asyncpg
from trio_graphile._database.errors import describe, describe_statement_error


@pytest.mark.parametrize("error", [TimeoutError(), trio.TooSlowError()])
def test_what_took_too_long_is_said_to_have(error: BaseException) -> None:
    assert describe(error) == "no answer in time"


END_SESSION = """
    select count(pg_terminate_backend(activity.pid))
    from pg_stat_activity as activity
    where activity.application_name = 'trio_graphile claim'
      and activity.datname = current_database()
"""


async def pass_on(source: trio.SocketStream, target: trio.SocketStream, said: trio.Event) -> None:
    """Pass on what comes, but not that it has ended."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for chunk in source:
            await target.send_all(chunk)
            if b"57P01" in chunk:
                said.set()


async def ask_until_it_fails(session: Connection) -> None:
    while True:
        await session.fetch_value("select 1")


async def test_a_statement_after_the_server_has_said_that_it_ends_the_session_finds_it_lost(
    database_url: str, database: Database, nursery: trio.Nursery
) -> None:
    """The end of the connection may come much later than the words: a wire is slow, a proxy in between."""
    said = trio.Event()

    async def serve(client: trio.SocketStream) -> None:
        async with await connect_to_server(database_url) as server, trio.open_nursery() as link:
            link.start_soon(pass_on, client, server, trio.Event())
            await pass_on(server, client, said)
            await trio.sleep_forever()

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]
    async with open_database(url_by_way_of(port, database_url)) as through:
        session = await through.open_session("claim", cancel_timeout=1.0)
        assert await database.fetch_value(END_SESSION) == 1
        with trio.fail_after(20):
            await said.wait()
            with pytest.raises(ConnectionLost):
                await ask_until_it_fails(session)
        assert session.is_closed
    nursery.cancel_scope.cancel()


def test_a_session_of_which_the_driver_has_lost_track_is_lost() -> None:
    lost = describe_statement_error(
        asyncpg.InternalClientError("cannot switch to state 12"), session_closed=False
    )
    assert isinstance(lost, ConnectionLost)
    stale = describe_statement_error(asyncpg.OutdatedSchemaCacheError("a type"), session_closed=False)
    assert isinstance(stale, StatementFailed)
