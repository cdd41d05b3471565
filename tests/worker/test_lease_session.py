"""The session of the lease: what a statement raises on the session of the lock, its caller gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.support.waiting import PATIENCE
from trio_graphile import ConnectionLost, Database, StatementFailed, WorkerOptions
from trio_graphile._database import worker_registry
from trio_graphile._database.session import Session
from trio_graphile._worker.lease_session import LeaseSession
from trio_graphile._worker.lock_keeper import LockKeeper

PURPOSE = "select split_part(current_setting('application_name'), ' ', 2)"


@pytest.fixture
async def session(database: Database) -> AsyncIterator[LeaseSession]:
    """That of a worker with a lock."""
    await worker_registry.heartbeat(database, "worker", {"tasks": []})
    keeper = LockKeeper.of(database, "worker", WorkerOptions())
    assert keeper is not None
    session = LeaseSession(Session(database, "lease", 1.0, direct=True), keeper)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, database, lambda: None, lambda _gone: None)
        nursery.start_soon(session.run)
        with trio.fail_after(PATIENCE):
            while not keeper.may_lend:  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.01)
        yield session
        session.terminate()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1/0", StatementFailed),
        ("select pg_terminate_backend(pg_backend_pid())", ConnectionLost),
        ("select '200000-01-01'::timestamptz", OverflowError),  # of the driver, which does not expect it
    ],
)
async def test_whoever_runs_a_statement_gets_what_it_raises(
    session: LeaseSession, sql: str, kind: type[Exception]
) -> None:
    assert await session.fetch_value(PURPOSE) == "presence"
    with trio.fail_after(PATIENCE):
        with pytest.raises(kind):
            await session.fetch(sql)
        assert await session.fetch_value(PURPOSE) in {"presence", "lease"}
