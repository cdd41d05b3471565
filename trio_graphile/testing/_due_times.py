"""Due times: moved, so that a test does not wait for them. The clock stays as it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement

TIME_NOW = Statement("""
    select now()
""")


async def time_now(executor: Executor) -> datetime:
    """Return the time by the clock of the database."""
    now: datetime = await executor.fetch_value(TIME_NOW)
    return now


TIME_UNTIL_DUE = Statement("""
    select min(jobs.run_at) - now()
    from {schema}._private_jobs as jobs
    where jobs.is_available and jobs.run_at > now() and jobs.run_at <= $1::timestamptz
""")  # $1 the latest time that counts


async def time_until_due(executor: Executor, before: datetime) -> timedelta | None:
    """Return after what time the next job becomes due, None if none does until then."""
    found: timedelta | None = await executor.fetch_value(TIME_UNTIL_DUE, before)
    return found


MOVE_DUE_TIMES = Statement("""
    update {schema}._private_jobs
    set run_at = run_at + $1::interval
    where locked_at is null
""")  # $1 by how much, negative for earlier


async def move_due_times(executor: Executor, by: timedelta) -> None:
    """Move the due times of all jobs that nobody runs, so that they keep their distances."""
    await executor.execute(MOVE_DUE_TIMES, by)
