"""Both ends of a session: what is between them is noticed, and whether the server lets anybody in."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from tests.faults.network import open_proxy
from tests.support.waiting import PATIENCE
from trio_graphile import Connection, ConnectionLost, Database, open_database
from trio_graphile._database import ends
from trio_graphile._database.ends import ServerEnd
from trio_graphile.embedded import PostgresServer, embedded_postgres


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    async with embedded_postgres(tcp_port=0) as server:
        yield server


async def open_session(database: Database) -> Connection:
    return await database.open_session("presence", cancel_timeout=1.0, direct=True)


@pytest.mark.parametrize("way", ["socket", "tcp"])
async def test_a_server_that_is_reached_directly_is_asked_where_it_is(
    server: PostgresServer, way: str
) -> None:
    url = server.url if way == "socket" else server.tcp_url_for()
    async with open_database(url) as database:
        session = await open_session(database)
        end = await ends.find_server_end(session)
        assert end is not None
        assert ends.has_nothing_to_read(session)
        assert not await lets_nobody_in(end)
        assert server.process_id is not None
        os.kill(
            server.process_id, signal.SIGTERM
        )  # it stops when all sessions have ended, and lets nobody in
        with trio.fail_after(PATIENCE):
            while not await lets_nobody_in(end):  # noqa: ASYNC110  # the signal takes its time
                await trio.sleep(0.02)
        assert not session.is_closed
        session.terminate()
        await server.kill()
        assert await lets_nobody_in(end)


async def lets_nobody_in(end: ServerEnd) -> bool:
    with trio.fail_after(PATIENCE):
        return await ends.lets_nobody_in(end)


async def test_a_proxy_between_the_ends_is_noticed(server: PostgresServer) -> None:
    for url in (server.url, server.tcp_url_for()):
        async with open_proxy(url) as proxy, open_database(proxy.url) as database:
            session = await open_session(database)
            assert await ends.find_server_end(session) is None
            session.terminate()


async def test_a_session_is_kept_though_it_is_silent(server: PostgresServer) -> None:
    async with open_database(server.tcp_url_for()) as database:
        session = await open_session(database)
        await ends.keep_open(session, 300.0)
        shown = [
            await session.fetch_value(f"show {name}")
            for name in ("tcp_keepalives_idle", "tcp_user_timeout", "idle_session_timeout")
        ]
        assert shown == ["75", "375000", "0"]
        session.terminate()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="as Linux has it")
@pytest.mark.parametrize(("lease", "idle"), [(300.0, 375), (86_400.0, 32_767)])
async def test_our_system_keeps_a_silent_session_as_long(
    server: PostgresServer, lease: float, idle: int
) -> None:
    async with open_database(server.tcp_url_for()) as database:
        session = await open_session(database)
        await ends.keep_open(session, lease)
        ours = session.socket
        assert ours is not None
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == lease * 1250
        session.terminate()


async def test_a_session_that_has_ended_is_not_vouched_for(server: PostgresServer) -> None:
    async with open_database(server.tcp_url_for()) as database:
        session = await open_session(database)
        assert ends.has_nothing_to_read(session)
        await database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        )
        with trio.fail_after(PATIENCE):
            await session.wait_closed()
        assert not ends.has_nothing_to_read(session)


@attrs.frozen
class ResetSession:
    """Its socket is reset as soon as its answer is there."""

    socket: socket.socket

    async def fetch(self, *_: object) -> list[dict[str, object]]:
        return [
            {"our_address": "::1", "our_port": 1, "server_address": "::1", "server_port": 2},
        ]


async def test_a_session_that_is_reset_after_its_answer_is_lost() -> None:
    with socket.socket() as unconnected, pytest.raises(ConnectionLost, match="the session was lost"):
        await ends.find_server_end(ResetSession(unconnected))  # type: ignore[arg-type]  # for what is used


async def test_silence_is_no_refusal() -> None:
    """Somebody accepts, and says nothing."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        end = ServerEnd(listener.socket.family, listener.socket.getsockname())
        with trio.move_on_after(0.2):
            assert not await ends.lets_nobody_in(end)
    assert await lets_nobody_in(end)
