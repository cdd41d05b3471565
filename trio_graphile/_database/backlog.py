"""The backlog: how many jobs wait, run, or have failed."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement
from trio_graphile._model.statistics import Backlog

COUNT_JOBS = Statement("""
    select
      count(*) filter (where jobs.is_available and jobs.run_at <= now()) as ready,
      count(*) filter (where jobs.is_available and jobs.run_at > now()) as scheduled,
      count(*) filter (where jobs.locked_at is not null) as locked,
      count(*) filter (where jobs.locked_at is null and not jobs.is_available) as failed,
      date_part('epoch', now()) - date_part(
        'epoch',
        min(jobs.run_at) filter (where jobs.is_available and jobs.run_at <= now())
      ) as oldest_ready
    from {schema}._private_jobs as jobs
""")
# One pass over the table, no payload read, no lock waited for: is_available says in one column that a job is
# not locked and has an attempt left.


async def count_jobs(executor: Executor) -> Backlog:
    """Count all jobs by state."""
    [row] = await executor.fetch(COUNT_JOBS)
    return Backlog(**row)
