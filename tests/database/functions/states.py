"""The states a job can be in, and what changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.database.functions.calls import Row, add_job, add_jobs, jobs, spec
from trio_graphile._database.database import Database

LATER = datetime(2033, 5, 6, 7, 8, 9, tzinfo=UTC)
EVEN_LATER = LATER + timedelta(days=1)
EVERY_WAY = ["add_job", "add_jobs", "add_jobs of two"]


async def keyed_job(database: Database, state: str) -> Row:
    """Add a job under the key `k`, in one of the five states that matter."""
    job = await add_job(
        database,
        "old",
        payload='{"old": 1}',
        queue_name="old",
        run_at=LATER,
        max_attempts=3,
        job_key="k",
        priority=9,
        flags=["old"],
    )
    match state:
        case "tried":
            await database.execute("update graphile_worker._private_jobs set attempts = 1, last_error = 'e'")
        case "dead":
            await exhaust(database, job["id"])
        case "running":
            await lock(database, job["id"])
        case "stuck":
            await lock(database, job["id"], age="5 hours")
        case _:
            assert state == "new"
    [row] = await jobs(database)
    return row


async def add_again(database: Database, mode: str, *, through: str) -> Row:
    if through == "add_job":
        return await add_job(
            database, "new", payload='{"new": 1}', run_at=EVEN_LATER, job_key="k", job_key_mode=mode
        )
    again = spec("new", payload='{"new": 1}', run_at=EVEN_LATER, job_key="k")
    others = [spec("new")] if through == "add_jobs of two" else []
    preserve = True if mode == "preserve_run_at" else None
    return (await add_jobs(database, again, *others, preserve=preserve))[0]


async def lock(database: Database, job_id: int, age: str = "1 minute", worker: str = "w") -> None:
    """Lock a job and its queue as a worker does, some time ago."""
    await database.execute(
        """
        with claimed as (
          update graphile_worker._private_jobs
          set locked_at = now() - $2::text::interval, locked_by = $3::text, attempts = attempts + 1
          where id = $1::bigint
          returning job_queue_id
        )
        update graphile_worker._private_job_queues as queues
        set locked_at = now() - $2::text::interval, locked_by = $3::text
        from claimed
        where queues.id = claimed.job_queue_id
        """,
        job_id,
        age,
        worker,
    )


async def exhaust(database: Database, job_id: int) -> None:
    await database.execute(
        """
        update graphile_worker._private_jobs
        set attempts = max_attempts, last_error = 'e'
        where id = $1::bigint
        """,
        job_id,
    )


async def last_values(database: Database) -> dict[str, int | None]:
    rows = await database.fetch(
        "select sequencename, last_value from pg_sequences where schemaname = 'graphile_worker'"
    )
    return {row["sequencename"]: row["last_value"] for row in rows}


def differences(before: Row, after: Row) -> Row:
    return {name: after[name] for name in before if before[name] != after[name]}
