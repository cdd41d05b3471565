"""Schemas as somebody installed them, and what all of them have in common."""

from __future__ import annotations

from trio_graphile import Database
from trio_graphile._database.schema import own_migrations

RUSTS_REVISION = 22


async def ledger(database: Database) -> dict[int, bool]:
    """Return the revisions that are installed, and whether each is breaking."""
    rows = await database.fetch("select id, breaking from graphile_worker.migrations")
    return {row["id"]: row["breaking"] for row in rows}


async def lacks_nothing_of_ours(database: Database) -> bool:
    """Whether all that we add is there, by our own ledger and by the catalog."""
    rows = await database.fetch("select id from graphile_worker.trio_graphile_migrations")
    found: bool = await database.fetch_value("""
        select to_regproc('graphile_worker.trio_graphile_complete_job') is not null
          and to_regproc('graphile_worker.trio_graphile_is_retired') is not null
          and to_regclass('graphile_worker.trio_graphile_cancellations') is not null
          and to_regclass('graphile_worker.trio_graphile_samples') is not null
          and to_regclass('graphile_worker.trio_graphile_queue_index') is not null
          and to_regclass('graphile_worker.trio_graphile_task_index') is not null
          and to_regclass('graphile_worker.trio_graphile_failed_index') is not null
          and to_regclass('graphile_worker._private_workers') is not null
          and to_regproc('graphile_worker.recover_dead_worker_jobs') is not null
    """)
    return found and {row["id"] for row in rows} == {migration.id for migration in own_migrations()}
