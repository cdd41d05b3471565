"""What tests ask of the tables."""

from __future__ import annotations

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
