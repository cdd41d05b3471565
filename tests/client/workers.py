"""What workers have done to the tables: claimed jobs, fallen silent."""

from __future__ import annotations

from tests.client.tasks import tasks
from trio_graphile import Database, Job
from trio_graphile._database.claiming import claims


async def lock(database: Database, worker_id: str = "somebody", *, age: str = "0") -> list[Job]:
    """Claim everything that is due, as a worker would have done some time ago."""
    claimed = await claims.get_jobs(database, worker_id, tasks.identifiers, 100)
    for table in ("_private_jobs", "_private_job_queues"):
        await database.execute(
            f"""
            update graphile_worker.{table}
            set locked_at = locked_at - $2::text::interval
            where locked_by = $1::text
            """,
            worker_id,
            age,
        )
    return claimed


async def silence(database: Database, worker_id: str, age: str) -> None:
    await database.execute(
        """
        update graphile_worker._private_workers
        set last_heartbeat_at = now() - $2::text::interval
        where id = $1::text
        """,
        worker_id,
        age,
    )
