"""What tests ask of the tables."""

from __future__ import annotations

import attrs

from tests.support.waiting import wait_until_true
from trio_graphile import Database


async def stored(database: Database) -> list[tuple[int, str | None, str]]:
    """The id, key and payload of each job in the table."""
    rows = await database.fetch(
        "select id, key, payload::text as payload from graphile_worker._private_jobs order by id"
    )
    return [(row["id"], row["key"], row["payload"]) for row in rows]


async def locked_queues(database: Database) -> dict[str, str]:
    """Who has locked each queue that is locked."""
    rows = await database.fetch("""
        select queue_name, locked_by
        from graphile_worker._private_job_queues
        where locked_at is not null
    """)
    return {row["queue_name"]: row["locked_by"] for row in rows}


async def locks(database: Database) -> list[tuple[str, str | None]]:
    """What is locked, jobs and queues, and by whom."""
    rows = await database.fetch("""
        select 'job ' || id as what, locked_by
        from graphile_worker._private_jobs
        where locked_at is not null or locked_by is not null
        union all
        select 'queue ' || queue_name, locked_by
        from graphile_worker._private_job_queues
        where locked_at is not null or locked_by is not null
    """)
    return [(row["what"], row["locked_by"]) for row in rows]


async def payloads(database: Database) -> list[str]:
    rows = await database.fetch("""
        select payload::text
        from graphile_worker._private_jobs
        order by id
    """)
    return [row["payload"] for row in rows]


@attrs.define(eq=False)
class Table:
    """The tables as a test sees them."""

    database: Database

    async def jobs(self) -> list[dict[str, object]]:
        rows = await self.database.fetch("""
            select id, attempts, max_attempts, last_error, locked_by, locked_at, key, run_at,
              extract(epoch from run_at - now())::float8 as delay
            from graphile_worker._private_jobs
            order by id
        """)
        return [dict(row) for row in rows]

    async def locked_queues(self) -> dict[str, str]:
        return await locked_queues(self.database)

    async def wait_until(self, sql: str, *arguments: object) -> None:
        await wait_until_true(self.database, sql, *arguments)

    async def make_due(self) -> None:
        await self.database.execute("update graphile_worker._private_jobs set run_at = now()")
