"""The way in: several hosts, passwords that change, poolers, and what each refusal says."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.database.sessions import purposes
from tests.faults.network import Proxy, open_proxy
from tests.support.waiting import PATIENCE
from trio_graphile import (
    DatabaseOptions,
    DatabaseRefused,
    DatabaseUnavailable,
    OptionInvalid,
    TaskRegistry,
    Worker,
    open_database,
)
from trio_graphile._database.access import Access
from trio_graphile._database.address import Address
from trio_graphile.embedded import PostgresServer, embedded_postgres


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    """A server that is asked for a password over TCP, and has a role with one."""
    async with embedded_postgres(tcp_port=0) as server:
        async with open_database(server.url) as database:
            await database.execute("create role ada login superuser password 'first'")
        rules = server.directory / "data" / "pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        async with open_database(server.url) as database:
            await database.execute("select pg_reload_conf()")
        yield server


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with open_proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def with_host_before(url: str, port: int) -> str:
    return url.replace("@127.0.0.1", f"@127.0.0.1:{port},127.0.0.1")


async def test_a_host_that_is_silent_leaves_time_for_the_next(proxy: Proxy, silent: int) -> None:
    url, options = with_host_before(proxy.url, silent), DatabaseOptions(connect_timeout=0.3)
    async with open_database(url, options) as database:
        assert await database.fetch_value("select 1") == 1
        with trio.fail_after(0.3):  # the host that let us in is the first to be asked again
            session = await database.open_session("test", cancel_timeout=1)
        session.terminate()


async def test_a_database_of_which_no_host_answers_says_what_each_did(silent: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    url = f"postgresql://ada:secret@127.0.0.1:{silent},127.0.0.1:{closed}/queue"
    with pytest.raises(DatabaseUnavailable) as caught:
        async with open_database(url, DatabaseOptions(connect_timeout=0.2)):
            pass
    text = str(caught.value)
    assert f"127.0.0.1:{silent}: no answer in time" in text
    assert f"127.0.0.1:{closed}: " in text
    assert "secret" not in text


async def test_sessions_find_the_host_that_takes_writes() -> None:
    """The first is a standby, as the one that was the primary is after a switchover."""
    replica = {"hot_standby": "on", "wal_level": "replica"}
    async with (
        embedded_postgres(tcp_port=0) as primary,
        embedded_postgres(tcp_port=0, settings=replica) as standby,
    ):
        await standby.stop()
        (standby.directory / "data" / "standby.signal").touch()
        await standby.start()
        hosts = f"postgresql://postgres@127.0.0.1:{standby.tcp_port},127.0.0.1:{primary.tcp_port}/postgres"
        for role, is_standby in [("read-write", False), ("primary", False), ("prefer-standby", True)]:
            async with open_database(f"{hosts}?target_session_attrs={role}") as database:
                assert await database.fetch_value("select pg_is_in_recovery()") is is_standby
        await primary.stop()
        with pytest.raises(DatabaseUnavailable, match="None of the hosts match"):
            async with open_database(f"{hosts}?target_session_attrs=read-write"):
                pass


# --- passwords ----------------------------------------------------------------------------------


async def test_a_password_that_changes_is_asked_for_each_time(server: PostgresServer) -> None:
    url = f"postgresql://ada@127.0.0.1:{server.tcp_port}/postgres"
    current = "first"

    async def password() -> str:
        await trio.lowlevel.checkpoint()
        return current

    async with open_database(url, password=password) as database:
        await database.execute("alter role ada password 'second'")
        current = "second"
        session = await database.open_session("test", cancel_timeout=1)
        assert await session.fetch_value("select current_user") == "ada"
        await session.aclose()
    async with open_database(url, password=lambda: current) as database:
        assert await database.fetch_value("select 1") == 1


async def test_a_password_file_is_read_each_time(server: PostgresServer, tmp_path: Path) -> None:
    """As it is rewritten while a worker runs. No URL needs to know it, and it may have any characters."""
    path = tmp_path / "passwords"

    def write(password: str) -> None:
        path.write_text(f"short\n*:*:*:ada:{password}\n")
        path.chmod(0o600)

    write("first")
    url = f"postgresql://ada@127.0.0.1:{server.tcp_port}/postgres?passfile={path}"
    async with open_database(url) as database:
        await database.execute(r"alter role ada password 'se:co\nd'")
        write(r"se\:co\\nd")
        session = await database.open_session("test", cancel_timeout=1)
        assert await session.fetch_value("select current_user") == "ada"
        await session.aclose()
        write("wrong")
        with pytest.raises(DatabaseRefused, match="password authentication failed") as refused:
            await database.open_session("test", cancel_timeout=1)
        assert refused.value.transient, "a running worker waits until the file is right again"
    path.chmod(0o600)
    write(r"se\:co\\nd")
    bare = url.partition("?")[0]
    async with open_database(bare, connect_arguments={"passfile": str(path)}) as database:
        assert await database.fetch_value("select 1") == 1


def raises() -> str:
    raise LookupError("the vault is sealed")


def exits() -> str:
    raise SystemExit(3)


@pytest.mark.parametrize(("source", "text"), [(raises, "the vault is sealed"), (exits, "SystemExit")])
async def test_a_password_that_cannot_be_had_is_an_outage(
    source: Callable[[], str | Awaitable[str]], text: str, server: PostgresServer
) -> None:
    with pytest.raises(DatabaseUnavailable, match=text):
        async with open_database(f"postgresql://ada@127.0.0.1:{server.tcp_port}/postgres", password=source):
            pass
    wrong = f"postgresql://ada@127.0.0.1:{server.tcp_port}/postgres"
    with pytest.raises(DatabaseRefused, match="password"):
        async with open_database(wrong, password=lambda: "guessed"):
            pass


# --- what the driver is told ----------------------------------------------------------------------


async def test_arguments_of_a_user_reach_the_driver(database_url: str) -> None:
    arguments = {"server_settings": {"work_mem": "7MB"}}
    async with open_database(database_url, connect_arguments=arguments) as database:
        assert await database.fetch_value("show work_mem") == "7MB"
        assert await database.fetch_value("show jit") == "off", "ours are there, too"


def test_arguments_that_are_ours_to_give_are_refused_by_name() -> None:
    with pytest.raises(OptionInvalid, match="loop is none; these are: direct_tls, "):
        Access(address=Address(url=None, shown="nowhere"), connect_arguments={"loop": None})


async def test_a_session_has_the_name_and_the_keep_alive_of_the_url(proxy: Proxy) -> None:
    url = f"{proxy.url}&application_name=shop&keepalives_idle=33"
    async with open_database(url) as database:
        assert await database.fetch_value("show application_name") == "shop"
        session = await database.open_session("listen", cancel_timeout=1)
        assert await session.fetch_value("show application_name") == "shop listen"
        raw = session._raw._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
        await session.aclose()


async def test_what_is_left_out_of_a_url_is_logged(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    separator = "&" if "?" in database_url else "?"
    with caplog.at_level(logging.WARNING, "trio_graphile"):
        async with open_database(f"{database_url}{separator}channel_binding=require"):
            pass
    assert "channel_binding=require of the database's URL is not supported" in caplog.text


async def test_a_server_without_tls_is_no_outage_where_tls_is_wanted(proxy: Proxy) -> None:
    url = proxy.url.replace("sslmode=disable", "sslmode=require")
    with trio.fail_after(10), pytest.raises(DatabaseRefused, match="rejected SSL upgrade"):
        async with open_database(url, DatabaseOptions(wait_for_server=60)):
            pass


async def test_sessions_that_must_be_direct_have_a_url_of_their_own(proxy: Proxy, database_url: str) -> None:
    """All others go through the pooler, whose part the proxy plays."""
    options = DatabaseOptions(prepared_statements=False, direct_url=database_url)
    async with open_database(proxy.url, options) as database:
        worker = Worker(database, TaskRegistry())
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            found = await direct_purposes(database_url)
            worker.stop()
    # The lease uses that of presence, and one is for the start alone.
    assert {"listen"} < {*found} <= {"lease", "listen", "presence", "start"}


@pytest.mark.parametrize(
    "options",
    [
        DatabaseOptions(pooled=True),
        DatabaseOptions(prepared_statements=False),
        DatabaseOptions(direct_url="postgresql://direct/queue"),
    ],
)
async def test_where_a_pooler_may_be_a_worker_does_not_listen_on_the_session_of_its_claims(
    database_url: str, options: DatabaseOptions
) -> None:
    """In transaction mode it goes deaf, and what is deaf is closed: no claim is to wait for that."""
    async with open_database(database_url, options) as database:
        assert not database.hears_everywhere


async def direct_purposes(url: str) -> list[str]:
    async with open_database(url) as database:
        with trio.fail_after(10):
            while True:
                found = await purposes(database)
                if len(found) >= 2:
                    return found


async def test_a_pooler_that_refuses_settings_is_told_from_an_outage() -> None:
    access = Access(address=Address(url=None, shown="postgresql://pooler/queue"))
    error = access.denied(PoolerError("unsupported startup parameter: jit"), is_misfit=False)
    assert isinstance(error, DatabaseRefused)
    assert not error.transient
    for way_out in ("pooled=True", "--pooled", "direct_url", "prepared_statements=False"):
        assert way_out in str(error)


class PoolerError(Exception):
    """As PgBouncer says it."""

    sqlstate = "08P01"


async def test_options_in_a_variable_reach_the_server(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=7MB")
    async with open_database(database_url) as database:
        assert await database.fetch_value("show work_mem") == "7MB"


async def test_a_service_is_connected_to(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _, name = proxy.url.rpartition(":")[2].partition("/")
    (tmp_path / "services").write_text(
        f"[queue]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname={name.partition('?')[0]}\n"
        "sslmode=disable\n"
    )
    for variable in ("DATABASE_URL", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PGSERVICEFILE", os.fspath(tmp_path / "services"))
    monkeypatch.setenv("PGSERVICE", "queue")
    async with open_database() as database:
        assert await database.fetch_value("select 1") == 1
    assert proxy.accepted > 0


async def test_a_password_itself_is_not_taken_for_an_outage(database_url: str) -> None:
    password: Any = "secret"
    with pytest.raises(OptionInvalid, match=r"^password: a function .* needed, not a value of the type str$"):
        await open_database(database_url, password=password).__aenter__()


@pytest.mark.parametrize("_time", range(5))  # what ends first is up to chance
async def test_a_session_that_nobody_waits_for_any_more_fails_unheard(database_url: str, _time: int) -> None:
    """It goes on being opened after its caller was cancelled, and fails when the loop ends."""
    asked = trio.Event()

    async def password() -> str:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("too late")  # instead of the cancellation, as drivers do

    async def open_and_close() -> None:
        async with open_database(database_url, password=password):
            raise AssertionError("there is no password")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_and_close)
        with trio.fail_after(PATIENCE):
            await asked.wait()
        nursery.cancel_scope.cancel()
