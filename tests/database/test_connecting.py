"""Opening sessions: whoever waits may leave at any moment, and nothing is lost, leaked or held up by it."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.faults.network import Proxy, open_proxy
from trio_graphile import Database, DatabaseOptions, DatabaseUnavailable, open_database

pytestmark = pytest.mark.everywhere  # the bridge to asyncio relies on what Python keeps private


@pytest.fixture
async def proxy(empty_database_url: str) -> AsyncIterator[Proxy]:
    async with open_proxy(empty_database_url) as proxy:
        yield proxy


async def sessions_of(database: Database) -> int:
    count = await database.fetch_value("""
        select count(*)
        from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
    """)
    return int(count)


async def test_giving_up_sessions_over_tcp_harms_nobody(proxy: Proxy) -> None:
    """With the default sslmode, which asks for TLS first: asyncpg leaves futures behind when interrupted."""
    url = proxy.url.replace("sslmode=disable", "sslmode=prefer")
    async with open_database(url) as database:
        opened = 0
        patience = (
            0.01  # the longest, in seconds: on a busy machine it gets longer until it is enough at times
        )
        for _ in range(300):
            with trio.move_on_after(random.uniform(0, patience)) as scope:
                session = await database.open_session("test", cancel_timeout=1)
                opened += 1
                session.terminate()
            if scope.cancelled_caught:
                patience = min(patience * 1.1, 1.0)
            else:
                patience *= 0.8
            assert await database.fetch_value("select 1") == 1
        assert 0 < opened < 300
        with trio.fail_after(10):
            while await sessions_of(database):
                pass  # what was given up is closed as soon as it is open


async def test_a_session_that_came_too_late_serves_the_next_borrower(proxy: Proxy) -> None:
    async with open_database(proxy.url, DatabaseOptions(pool_size=2)) as database, database.connection():
        before = proxy.accepted
        proxy.swallow()
        for _ in range(20):
            with trio.move_on_after(0.01):
                await database.fetch_value("select 1")
        assert proxy.accepted == before + 1, "each began an attempt of its own"
        await proxy.heal()
        with trio.fail_after(10):
            assert await database.fetch_value("select 1") == 1
        assert proxy.accepted == before + 1


async def test_a_session_that_was_lost_before_anybody_took_it_is_replaced(proxy: Proxy) -> None:
    async with open_database(proxy.url, DatabaseOptions(pool_size=2)) as database:
        async with database.connection():
            proxy.swallow()
            with trio.move_on_after(0.01):
                await database.fetch_value("select 1")
            await proxy.holding.wait()
            proxy.reset()
            await proxy.heal()
        async with database.connection(), database.connection() as second:
            assert await second.fetch_value("select 1") == 1


async def test_a_resolver_that_hangs_holds_nobody_up(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, hangs, found = socket.getaddrinfo, threading.Event(), threading.Event()

    def hang(host: Any, *arguments: Any, **options: Any) -> Any:
        hangs.set()
        assert found.wait(30)
        return resolve(host, *arguments, **options)

    async def connect(database: Database) -> None:
        with pytest.raises(DatabaseUnavailable):
            await database.open_session("test", cancel_timeout=1)

    url = proxy.url.replace("127.0.0.1", "localhost")
    try:
        with trio.fail_after(20):
            async with open_database(url, DatabaseOptions(connect_timeout=0.2)) as database:
                monkeypatch.setattr(socket, "getaddrinfo", hang)
                await connect(database)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connect, database)
                    assert await trio.to_thread.run_sync(hangs.wait, 10)
                    nursery.cancel_scope.cancel()
        assert not found.is_set()
    finally:
        found.set()
