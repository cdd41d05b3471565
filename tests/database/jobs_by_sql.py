"""Jobs as SQL callers add them, claimed by the statement of a worker, and their rows."""

from __future__ import annotations

from tests.database.functions.calls import add_job
from trio_graphile._database.claiming import claims
from trio_graphile._database.database import Database
from trio_graphile._model.jobs import Job

ME = "me"
ALL = ("a", "b")


async def add(database: Database, identifier: str = "a", **options: object) -> int:
    """Add a job as SQL callers do."""
    return int((await add_job(database, identifier, **options))["id"])


async def claim(database: Database, limit: int = 10, worker: str = ME, **options: object) -> list[Job]:
    return await claims.get_jobs(database, worker, ALL, limit, **options)  # type: ignore[arg-type]


async def row(database: Database, job_id: int) -> dict[str, object]:
    found = await database.fetch_row(
        "select * from graphile_worker._private_jobs where id = $1::bigint", job_id
    )
    assert found is not None
    return dict(found)
