"""What clients do to jobs: add, remove, complete, fail, reschedule, unlock.

By the schema's own functions, as every other program does it, but for most jobs that are added one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.additions import add_plain_job
from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.jobs import ChangedJobs, Job, JobChange, NewJob

_TASK_ADDED = """coalesce(
        (
          select tasks.identifier
          from {schema}._private_tasks as tasks
          where tasks.id = jobs.task_id
        ),
        $1::text
      )"""
_QUEUE_ADDED = """case
        when jobs.job_queue_id is not null then coalesce(
          (
            select queues.queue_name
            from {schema}._private_job_queues as queues
            where queues.id = jobs.job_queue_id
          ),
          $3::text
        )
      end"""

ADD_JOB = Statement(f"""
    select {job_columns(task=_TASK_ADDED, queue_name=_QUEUE_ADDED)}
    from {{schema}}.add_job(
      identifier => $1::text,
      payload => $2::text::json,
      queue_name => $3::text,
      run_at => $4::timestamptz,
      max_attempts => $5::integer,
      job_key => $6::text,
      priority => $7::integer,
      flags => $8::text[],
      job_key_mode => $9::text
    ) as jobs
""")
# $1 identifier, $2 payload, $3 queue, $4 time, $5 maximum of attempts, $6 key, $7 priority, $8 flags, $9
# mode. Names come from the rows, since `unsafe_dedupe` may answer with a job of another task and queue; a row
# that this very statement inserts is not visible to it, but then the name is the one given.


async def add_job(executor: Executor, new_job: NewJob) -> Job:
    """Add a job, or do to the one under its key what the mode says; return the row."""
    spec = new_job.spec
    is_plain = spec.job_key is None and spec.queue_name is None
    if is_plain and (job := await add_plain_job(executor, new_job)) is not None:
        return job
    row = await executor.fetch_row(
        ADD_JOB,
        new_job.identifier,
        new_job.payload_json,
        spec.queue_name,
        spec.run_at,
        spec.max_attempts,
        spec.job_key,
        spec.priority,
        spec.flags,
        spec.job_key_mode.value,
    )
    if row is None or row["id"] is None:
        # Only functions that are not ours do this, when a worker takes the keyed job at this moment.
        raise StatementFailed(f"the job under the key {spec.job_key!r} was not added", sqlstate="GWNOR")
    return job_from_row(row)


ANALYZE_JOBS = Statement("analyze {schema}._private_jobs")


async def analyze_jobs(executor: Executor) -> None:
    """Have the planner look at the table again, after it has grown by much."""
    await executor.execute(ANALYZE_JOBS)


_JOBS_OF = f"""
    select {job_columns()}
    from {jobs_with_names("{schema}.%s")}
    where jobs.id is not null
    order by jobs.id
"""

REMOVE_JOB = Statement(_JOBS_OF % "remove_job($1::text)")  # $1 key


async def remove_job(executor: Executor, job_key: str) -> Job | None:
    """Delete the job under a key, or detach it if it runs; return it, or None if there was none.

    A job that still has its key was deleted, one that lost it was detached.
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
    """Take all attempts from jobs that are not locked."""
    return _changed(ids, await executor.fetch(PERMANENTLY_FAIL_JOBS, ids, reason))


RESCHEDULE_JOBS = Statement(
    _JOBS_OF
    % """reschedule_jobs(
      $1::bigint[],
      run_at => $2::timestamptz,
      priority => $3::integer,
      attempts => $4::integer,
      max_attempts => $5::integer
    )"""
)  # $1 job ids, then what to set, null to keep: $2 time, $3 priority, $4 attempts, $5 maximum of attempts


async def reschedule_jobs(executor: Executor, ids: Sequence[int], change: JobChange) -> ChangedJobs:
    """Change when, how soon and how often jobs that are not locked are tried."""
    rows = await executor.fetch(
        RESCHEDULE_JOBS, ids, change.run_at, change.priority, change.attempts, change.max_attempts
    )
    return _changed(ids, rows)


def _changed(ids: Sequence[int], rows: Sequence[Row]) -> ChangedJobs:
    jobs = tuple(map(job_from_row, rows))
    changed = {job.id for job in jobs}
    return ChangedJobs(jobs, tuple(dict.fromkeys(job_id for job_id in ids if job_id not in changed)))


FORCE_UNLOCK_WORKERS = Statement("select {schema}.force_unlock_workers($1::text[])")  # $1 worker ids


async def force_unlock_workers(executor: Executor, worker_ids: Sequence[str]) -> None:
    """Take all locks from workers."""
    await executor.execute(FORCE_UNLOCK_WORKERS, worker_ids)
