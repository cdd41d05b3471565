"""A server that lets nobody in for a while: a worker that runs waits for it, and says for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from tests.faults.load import PATIENCE
from tests.support.handlers import Handlers
from tests.support.notices import Notices
from tests.support.tables import Table
from tests.support.workers import make_worker, running
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    DatabaseOptions,
    DatabaseRefused,
    DatabaseUnavailable,
    open_database,
)
from trio_graphile.embedded import embedded_postgres

HBA = "local all rotated scram-sha-256\nlocal all all trust\n"


@attrs.frozen(kw_only=True)
class Refusal:
    """How sessions are kept out, and let in again, by somebody in another database of the server."""

    keep_out: str
    let_in: str
    parameters: str = ""
    """What stands in the URL besides."""
    text: str
    error: type[DatabaseError] = DatabaseRefused


REFUSALS = {
    "a rotated password": Refusal(
        keep_out="alter role rotated password 'another'",
        let_in="alter role rotated password 'secret'",
        text="turned us away: password authentication failed",
    ),
    "nologin": Refusal(
        keep_out="alter role rotated nologin", let_in="alter role rotated login", text="turned us away: role"
    ),
    "maintenance": Refusal(
        keep_out="alter database work allow_connections false",
        let_in="alter database work allow_connections true",
        text='turned us away: database "work" is not currently accepting connections',
    ),
    "a switchover": Refusal(  # to whoever wants to write, a standby looks like this
        keep_out="alter database work set default_transaction_read_only = on",
        let_in="alter database work reset default_transaction_read_only",
        parameters="&target_session_attrs=read-write",
        text="cannot reach PostgreSQL at",
        error=DatabaseUnavailable,
    ),
}

END_SESSIONS = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = 'work'"


@attrs.frozen
class Stage:
    admin: Database
    """In another database of the server."""
    url: str


@asynccontextmanager
async def staged(refusal: Refusal) -> AsyncIterator[Stage]:
    async with embedded_postgres() as server, open_database(server.url) as admin:
        await trio.Path(await admin.fetch_value("show hba_file")).write_text(HBA)
        await admin.execute("select pg_reload_conf()")
        await admin.execute("create role rotated superuser login password 'secret'")
        await admin.execute("create database work")
        query = urlsplit(server.url).query
        yield Stage(admin, f"postgresql://rotated:secret@/work?{query}{refusal.parameters}")


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_running_worker_waits_for_what_keeps_it_out(name: str, notices: Notices) -> None:
    refusal, handlers = REFUSALS[name], Handlers()
    async with staged(refusal) as stage, open_database(stage.url) as database:
        await Client(database, handlers.tasks).migrate()
        async with running(make_worker(database, handlers.tasks, poll_interval=0.5)) as run:
            await Client(database, handlers.tasks).add_raw_job("held")
            await handlers.wait_started(1)
            await stage.admin.execute(refusal.keep_out)
            await stage.admin.execute(END_SESSIONS)
            await notices.wait_for_new(refusal.text)
            await notices.wait_for_new(" s now)")
            handlers.release.set()
            await stage.admin.execute(refusal.let_in)
            await Table(database).wait_until("select not exists (select from graphile_worker._private_jobs)")
            report = await run.stop()
    assert (report.completed, report.lost) == (1, 0)
    assert handlers.cancelled == []


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_program_that_starts_hears_at_once_what_keeps_it_out(name: str) -> None:
    """For a switchover it waits if asked to: nothing is wrong with what it was told."""
    refusal = REFUSALS[name]
    async with staged(refusal) as stage:
        await stage.admin.execute(refusal.keep_out)
        options = DatabaseOptions(wait_for_server=600 if refusal.error is DatabaseRefused else None)
        with trio.fail_after(PATIENCE), pytest.raises(refusal.error, match=refusal.text) as raised:
            async with open_database(stage.url, options):
                pass
        assert "secret" not in str(raised.value)
        assert raised.value.transient is (refusal.error is DatabaseUnavailable)
