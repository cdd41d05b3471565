"""What clients do to existing jobs: remove, complete, fail, reschedule, unlock.

The schema's own functions do all of it, as for every other program.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.held_rows import ANNOUNCED
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import ChangedJobs, Job, JobChange

_JOBS_OF = f"""
    select {job_columns()}
    from {jobs_with_names("{schema}.%s")}
    where jobs.id is not null
    order by jobs.id
"""

REMOVE_JOB = Statement(_JOBS_OF % "remove_job($1::text)")  # $1 key


async def remove_job(executor: Executor, job_key: str) -> Job | None:
    """Delete the job under a key, or detach it if it runs; return it, or None if there was none.

    A returned job with a key was deleted; one that has lost its key was detached.
    """
    row = await executor.fetch_row(REMOVE_JOB, job_key)
    return None if row is None else job_from_row(row)


COMPLETE_JOBS = Statement(_JOBS_OF % "complete_jobs($1::bigint[])")  # $1 job ids


async def complete_jobs(executor: Executor, ids: Sequence[int]) -> ChangedJobs:
    """Delete jobs that are not locked, as if they had succeeded."""
    return _changed(ids, await executor.fetch(COMPLETE_JOBS, ids))


PERMANENTLY_FAIL_JOBS = Statement(_JOBS_OF % "permanently_fail_jobs($1::bigint[], $2::text)")
# $1 job ids, $2 reason or null


async def permanently_fail_jobs(executor: Executor, ids: Sequence[int], reason: str | None) -> ChangedJobs:
    """Fail jobs that are not locked for good."""
    return _changed(ids, await executor.fetch(PERMANENTLY_FAIL_JOBS, ids, reason))


RESCHEDULE_JOBS = Statement(
    """
    with returned as materialized (
      select *
      from {schema}.reschedule_jobs(
        $1::bigint[],
        run_at => $2::timestamptz,
        priority => $3::integer,
        attempts => $4::integer,
        max_attempts => $5::integer
      )
    )
    select {columns}, {announced}
    from {jobs}
    where jobs.id is not null
    order by jobs.id
""".replace("{columns}", job_columns())
    .replace("{announced}", ANNOUNCED)
    .replace("{jobs}", jobs_with_names("returned"))
)  # $1 job ids, then what to set, null to keep: $2 time, $3 priority, $4 attempts, $5 maximum of attempts
# The function tells nobody, and what is due now would wait until somebody polls.


async def reschedule_jobs(executor: Executor, ids: Sequence[int], change: JobChange) -> ChangedJobs:
    """Change the time, priority and attempts of jobs that are not locked; announce those that are due."""
    rows = await executor.fetch(
        RESCHEDULE_JOBS, ids, change.run_at, change.priority, change.attempts, change.max_attempts
    )
    return _changed(ids, rows)


def _changed(ids: Sequence[int], rows: Sequence[Row]) -> ChangedJobs:
    jobs = tuple(map(job_from_row, rows))
    changed = {job.id for job in jobs}
    return ChangedJobs(jobs, tuple(dict.fromkeys(job_id for job_id in ids if job_id not in changed)))


FORCE_UNLOCK_WORKERS = Statement("""
    select {schema}.force_unlock_workers($1::text[]), (
      select pg_notify('jobs:insert', json_build_object('r', random(), 'count', count(*))::text)
      from (
        select
        from {schema}._private_jobs as jobs
        where jobs.locked_by = any($1::text[])
          and jobs.run_at <= now()
          and jobs.attempts < jobs.max_attempts
        union all
        select
        from {schema}._private_job_queues as queues
        where queues.locked_by = any($1::text[])
          and exists (
            select from {schema}._private_jobs as jobs
            where jobs.job_queue_id = queues.id
              and jobs.is_available = true
              and jobs.run_at <= now()
          )
      ) as freed
      having count(*) > 0
    ) as announced
""")
# $1 worker ids. The function tells nobody. What it frees is counted as it was before, since a statement does
# not see what a function in it writes.


async def force_unlock_workers(executor: Executor, worker_ids: Sequence[str]) -> None:
    """Release all locks of workers, and announce the jobs that are due."""
    await executor.execute(FORCE_UNLOCK_WORKERS, worker_ids)
