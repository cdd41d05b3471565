"""What tests with several sessions wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.waiting import PATIENCE, wait_until_true
from trio_graphile._database.database import Database


@asynccontextmanager
async def heard(database: Database, channel: str) -> AsyncIterator[list[str]]:
    """Collect the payloads of a channel; complete when the block has ended."""
    payloads: list[str] = []
    ended = trio.Event()

    def notified(payload: str) -> None:
        if payload == "end":
            ended.set()
        else:
            payloads.append(payload)

    listener = await database.open_session("test", cancel_timeout=1)
    try:
        await listener.listen(channel, notified)
        yield payloads
        await database.execute("select pg_notify($1::text, 'end')", channel)
        with trio.fail_after(PATIENCE):
            await ended.wait()
    finally:
        await listener.aclose()


SOMEBODY_WAITS = """
    select exists (
      select
      from pg_stat_activity
      where datname = current_database()
        and cardinality(pg_blocking_pids(pid)) > 0
    )
"""


async def wait_until_somebody_waits(database: Database) -> None:
    """Return when a session of the database waits for a lock of another one."""
    await wait_until_true(database, SOMEBODY_WAITS)


async def wait_until_nobody_waits(database: Database) -> None:
    """Return when no session of the database waits any more for a lock of another one."""
    with trio.fail_after(PATIENCE):
        while await database.fetch_value(SOMEBODY_WAITS):
            pass


SOMEBODY_ELSE_RUNS = """
    select exists (
      select
      from pg_stat_activity
      where datname = current_database()
        and state = 'active'
        and query like $1::text
        and pid <> pg_backend_pid()
    )
"""


async def wait_until_active(database: Database, sql: str) -> None:
    """Return when somebody else runs a statement that is like this."""
    await wait_until_true(database, SOMEBODY_ELSE_RUNS, sql)


async def set_default_isolation(database: Database, level: str) -> None:
    """Have sessions that are opened from now on begin their transactions at a level."""
    name = await database.fetch_value("select quote_ident(current_database())")
    await database.execute(f"alter database {name} set default_transaction_isolation = '{level}'")


async def purposes(database: Database) -> list[str]:
    """Return what the sessions of workers are for."""
    rows = await database.fetch("""
        select split_part(application_name, ' ', 2) as purpose
        from pg_stat_activity
        where datname = current_database() and application_name like 'trio_graphile %'
        order by 1
    """)
    return [row["purpose"] for row in rows]
