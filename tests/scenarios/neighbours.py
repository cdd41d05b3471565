"""Somebody else at the same tables, who locks a row or a table for a while, as people and programs do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import attrs
import trio

from trio_graphile import Database, DatabaseError

HOLD = 0.03
"""How long what is locked stays so, in seconds."""

LOCKS = {
    "job": """
        select id
        from graphile_worker._private_jobs
        order by id
        limit 1
        for update skip locked
    """,
    "jobs": """
        select id
        from graphile_worker._private_jobs
        order by id
        for update skip locked
    """,
    "queue": """
        select id
        from graphile_worker._private_job_queues
        order by id
        limit 1
        for update skip locked
    """,
    "worker": """
        select id
        from graphile_worker._private_workers
        for update skip locked
    """,
    "table_of_jobs": "lock table graphile_worker._private_jobs in access exclusive mode",
    "table_of_queues": "lock table graphile_worker._private_job_queues in access exclusive mode",
    "table_of_workers": "lock table graphile_worker._private_workers in access exclusive mode",
    "table_of_tasks": "lock table graphile_worker._private_tasks in access exclusive mode",
    "table_of_crontabs": "lock table graphile_worker._private_known_crontabs in access exclusive mode",
    "table_of_cancellations": """
        lock table graphile_worker.trio_graphile_cancellations in access exclusive mode
    """,
}

SOMEBODY_WAITS = """
    select exists (
      select 1
      from pg_locks
      join pg_database on pg_database.oid = pg_locks.database
      where not pg_locks.granted
        and pg_database.datname = current_database()
    )
"""


@attrs.define(eq=False)
class Neighbour:
    """Has sessions of its own, and comes when called."""

    _database: Database
    _called: trio.Event = attrs.field(factory=trio.Event)
    _sql: str = ""
    _then: Callable[[], None] = lambda: None

    def call(self, sql: str, then: Callable[[], None]) -> None:
        """Have something locked from now on for a while; once it is, `then` is called."""
        self._sql, self._then = sql, then
        self._called.set()

    async def run(self) -> None:
        await self._called.wait()
        try:
            async with self._database.transaction() as connection:
                await connection.execute("set local lock_timeout = '2s'")
                try:
                    await connection.execute(self._sql)
                finally:
                    self._then()
                await trio.sleep(HOLD)
        except DatabaseError as error:
            if not error.transient:  # it is somebody who waits no longer than this
                raise

    async def obstruct(
        self,
        sql: str,
        ended_at: Callable[[], float | None],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Lock something that a worker needs, until it has waited a while, or else until we are cancelled."""
        with contextlib.suppress(DatabaseError):  # its session may be lost as all others
            async with self._database.transaction() as connection:
                await connection.execute(sql)
                task_status.started()
                while not connection.is_closed:  # the server tells nobody
                    if await self._database.fetch_value(SOMEBODY_WAITS):
                        break
                    await trio.sleep(0.01)
                await trio.sleep(HOLD)
                if ended_at() is not None:
                    await trio.sleep_forever()
