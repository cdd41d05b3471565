"""Sessions that come back: the lost one has ended before its successor is used, whoever we act as."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta

import attrs
import pytest
import trio

from tests.database.sessions import wait_until_somebody_waits
from tests.environments.roles import url_with_login
from tests.support.waiting import PATIENCE
from trio_graphile import Database, DatabaseError, open_database
from trio_graphile._database import presence_locks
from trio_graphile._database.session import Session

pytestmark = pytest.mark.everywhere  # the bridge to asyncio relies on what Python keeps private

LOCK = "select pg_advisory_lock(1)"
IS_THERE = "select exists (select from pg_stat_activity where pid = $1::integer)"


@pytest.fixture(params=["as itself", "as another role"])
async def login(
    request: pytest.FixtureRequest, empty_database_url: str, admin: Database
) -> AsyncIterator[Database]:
    """The same database with a login of its own, which may act as another role that has no right to it."""
    suffix = secrets.token_hex(4)
    name, role = f"login_{suffix}", f"role_{suffix}"
    await admin.execute(f"create role {role}")
    await admin.execute(f"create role {name} login password 'sesame' in role {role}")
    url = url_with_login(empty_database_url, name, None if request.param == "as itself" else role)
    async with open_database(url) as database:
        yield database
    await admin.execute(f"drop role {name}, {role}")


@pytest.fixture
async def admin(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as admin:
        yield admin


async def test_a_lost_session_has_ended_before_the_next_is_used(admin: Database, login: Database) -> None:
    """What was on its way waits for a lock, and would take effect when it got that."""
    session = Session(login, "test", 1.0)
    process = await session.fetch_value("select pg_backend_pid()")
    role = await session.fetch_value("select current_user")

    async def wait_for_lock() -> None:
        with pytest.raises(DatabaseError):
            await session.execute(LOCK)

    async with admin.connection() as holder, trio.open_nursery() as nursery:
        await holder.execute(LOCK)
        nursery.start_soon(wait_for_lock)
        await wait_until_somebody_waits(admin)
        session.terminate()
        assert await admin.fetch_value(IS_THERE, process)
        with trio.fail_after(PATIENCE):
            assert await session.fetch_value("select current_user") == role
        assert not await admin.fetch_value(IS_THERE, process)
    session.terminate()


async def test_a_session_with_a_lock_can_be_ended(login: Database) -> None:
    session = await login.open_session("test", cancel_timeout=1.0)
    lock, _ = await presence_locks.take_lock(session, presence_locks.draw_key(), None)
    assert lock is not None
    with trio.fail_after(PATIENCE):
        await presence_locks.end_sessions(login, [lock])
        await session.wait_closed()


async def test_another_session_with_the_number_of_a_lost_one_is_left_alone(login: Database) -> None:
    session = await login.open_session("test", cancel_timeout=1.0)
    lock, _ = await presence_locks.take_lock(session, presence_locks.draw_key(), None)
    assert lock is not None
    earlier = attrs.evolve(lock, began_at=lock.began_at - timedelta(seconds=1))
    await presence_locks.end_sessions(login, [earlier])
    assert await session.fetch_value("select 1") == 1
    session.terminate()
