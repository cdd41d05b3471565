"""What a worker does to the rows that it has claimed: complete, fail, return; in batches, with fences.

The fence of a job is `locked_by` and `attempts`, both as claimed. A job whose key was added again, or
removed, while it ran is *detached*: it has lost its key and its attempts are at the maximum, but it is still
ours to end.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Failed, Returned, Snoozed

REGISTER_TASKS = Statement("""
    insert into {schema}._private_tasks (identifier)
    select wanted.identifier
    from unnest($1::text[]) as wanted(identifier)
    where not exists (
      select from {schema}._private_tasks as tasks
      where tasks.identifier = wanted.identifier
    )
    on conflict (identifier) do nothing
""")  # $1 identifiers. Only missing ones: an insert that conflicts would burn one of 2^31 ids each time.


async def register_tasks(executor: Executor, identifiers: Sequence[str]) -> None:
    """Make the tasks known in the database, so that other programs see them before their first job."""
    await executor.execute(REGISTER_TASKS, list(identifiers))


OURS = """jobs.id = any($2::bigint[])
        and jobs.locked_by = $1::text
        and (
          (jobs.id, jobs.attempts) in (
            select held.id, held.attempts
            from unnest($2::bigint[], $3::smallint[]) as held(id, attempts)
          )
          or jobs.id = any($4::bigint[]) and jobs.key is null and jobs.attempts = jobs.max_attempts
        )"""
# The fence, which replaces `{ours}` below. $1 worker id, $2 job ids, $3 their attempts as claimed, $4 the ids
# of those that had a key then.


RETIRED = """jobs.attempts >= jobs.max_attempts
          and (
            jobs.key is null and jobs.updated_at >= jobs.locked_at
            or {schema}.trio_graphile_is_retired(jobs.id)
          )"""
# Whether a job was replaced, removed or failed while it ran: it must not get its attempt back, or it would
# run again. A job claimed for its last attempt looks the same except for `updated_at`: claiming does not
# change it, and our functions set it to no less than `locked_at`. The functions of Rust leave a mark instead.


def fences(jobs: Sequence[Job]) -> tuple[list[int], list[int], list[int]]:
    """Return the parameters $2 to $4 of `OURS`."""
    return (
        [job.id for job in jobs],
        [job.attempts for job in jobs],
        [job.id for job in jobs if job.key is not None],
    )


COMPLETE_JOBS = Statement(
    """
    with done as (
      delete from {schema}._private_jobs as jobs
      where {ours}
      returning jobs.id, jobs.job_queue_id
    ),
    freed_queues as (
      update {schema}._private_job_queues as queues
      set locked_by = null, locked_at = null
      where queues.id = any(array(select done.job_queue_id from done))
        and queues.locked_by = $1::text
    )
    select array(select done.id from done) as ids
""".replace("{ours}", OURS)
)


COMPLETE_ALIKE_JOBS = Statement("""
    with done as (
      delete from {schema}._private_jobs as jobs
      where jobs.id = any($2::bigint[])
        and jobs.locked_by = $1::text
        and jobs.attempts = $3::smallint
      returning jobs.id
    )
    select array(select done.id from done) as ids
""")
# $1 worker id, $2 job ids, $3 the attempts of each as claimed. Does what COMPLETE_JOBS does, but cheaper, to
# jobs that have equal attempts, no queue, and had no key: it need not look up a pair for each.


async def complete_jobs(executor: Executor, worker_id: str, jobs: Sequence[Job]) -> set[int]:
    """Delete finished jobs and free their queues; return the ids of those that were still ours."""
    if (attempts := _attempts_of_alike(jobs)) is None:
        ids = await executor.fetch_value(COMPLETE_JOBS, worker_id, *fences(jobs))
    else:
        ids = await executor.fetch_value(COMPLETE_ALIKE_JOBS, worker_id, [job.id for job in jobs], attempts)
    return set(ids)


def _attempts_of_alike(jobs: Sequence[Job]) -> int | None:
    """Return the attempts of the jobs if they are equal and no job has a queue or had a key."""
    attempts = jobs[0].attempts if jobs else None
    for job in jobs:  # a loop, since it runs for each job, and `all` takes half as long again
        if job.attempts != attempts or job.queue_name is not None or job.key is not None:
            return None
    return attempts


LOCK_JOB = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.id = $2::bigint
      and jobs.locked_by = $1::text
    for no key update
""")  # $1 worker id, $2 job id


async def lock_job(executor: Executor, worker_id: str, job: Job) -> bool:
    """Lock a job's row until the transaction ends; return whether the job is ours."""
    return await executor.fetch_value(LOCK_JOB, worker_id, job.id) is not None


COMPLETE_JOB = Statement("""
    select {schema}.trio_graphile_complete_job($1::text, $2::bigint, $3::smallint, $4::boolean)
""")  # $1 worker id, $2 job id, $3 its attempts as claimed, $4 whether it had a key then


async def complete_job(executor: Executor, worker_id: str, job: Job) -> bool:
    """Delete one job and free its queue, in whatever transaction is open; return whether it was ours."""
    return bool(
        await executor.fetch_value(COMPLETE_JOB, worker_id, job.id, job.attempts, job.key is not None)
    )


FAIL_JOBS = Statement(
    """
    with failed as (
      update {schema}._private_jobs as jobs
      set last_error = mine.error,
        attempts = case
          when mine.permanent
          then greatest(jobs.attempts, jobs.max_attempts)
          else jobs.attempts
        end,
        run_at = greatest(
          jobs.run_at,
          least(greatest(now(), jobs.run_at), timestamptz '9999-01-01')
            + coalesce(mine.delay, exp(greatest(least(jobs.attempts, 10), 0))) * interval '1 second'
        ),
        payload = coalesce(mine.payload::json, jobs.payload),
        locked_by = null,
        locked_at = null
      from unnest($2::bigint[], $5::text[], $6::float8[], $7::boolean[], $8::text[])
        as mine(id, error, delay, permanent, payload)
      where mine.id = jobs.id
        and {ours}
      returning jobs.id, jobs.job_queue_id
    ),
    freed_queues as (
      update {schema}._private_job_queues as queues
      set locked_by = null, locked_at = null
      where queues.id = any(array(select failed.job_queue_id from failed))
        and queues.locked_by = $1::text
    )
    select id
    from failed
""".replace("{ours}", OURS)
)
# $5 errors, $6 seconds until the next attempt or null, $7 whether there is none, $8 new payloads or null.
# A time at the end of all times is left as it is, and a number of attempts below 0 counts as 0: PostgreSQL
# cannot add to them.


async def fail_jobs(executor: Executor, worker_id: str, failures: Sequence[Failed]) -> set[int]:
    """Record failures: unlock, with a time for the next attempt; return the ids that were still ours."""
    rows = await executor.fetch(
        FAIL_JOBS,
        worker_id,
        *fences([failure.job for failure in failures]),
        [failure.error for failure in failures],
        [failure.delay for failure in failures],
        [failure.permanent for failure in failures],
        [failure.payload_json for failure in failures],
    )
    return {row["id"] for row in rows}


ANNOUNCED = """(
      select pg_notify('jobs:insert', json_build_object('r', random(), 'count', count(*))::text)
      from returned as due
      where due.run_at <= now()
        and due.attempts < due.max_attempts
      having count(*) > 0
    ) as announced"""
# What is given back is announced as if it were added, or others would find it only when they poll. `returned`
# are the rows.

QUEUES_ANNOUNCED = """(
      select pg_notify('jobs:insert', json_build_object('r', random(), 'count', count(*))::text)
      from freed
      where exists (
        select from {schema}._private_jobs as jobs
        where jobs.job_queue_id = freed.id
          and jobs.is_available = true
          and jobs.run_at <= now()
      )
      having count(*) > 0
    ) as announced"""
# The same for queues, of which each has a job to run now if one of its jobs is due. `freed` are their rows.
# Not for those that a worker frees with an outcome: it looks for their next jobs itself, and when it ends it
# tells others.

RETURN_JOBS = Statement(
    """
    with returned as (
      update {schema}._private_jobs as jobs
      set attempts = case
          when jobs.id = any($4::bigint[]) and jobs.key is null
            or jobs.attempts >= jobs.max_attempts and {schema}.trio_graphile_is_retired(jobs.id)
          then jobs.attempts
          else greatest(jobs.attempts - 1, 0)
        end,
        last_error = case
          when jobs.id = any($4::bigint[]) and jobs.key is null
            or jobs.attempts >= jobs.max_attempts and {schema}.trio_graphile_is_retired(jobs.id)
          then coalesce(jobs.last_error, 'Replaced or removed through its key while it ran')
          else jobs.last_error
        end,
        run_at = greatest(jobs.run_at, now() + mine.delay * interval '1 second'),
        payload = coalesce(mine.payload::json, jobs.payload),
        locked_by = null,
        locked_at = null
      from unnest($2::bigint[], $5::float8[], $6::text[]) as mine(id, delay, payload)
      where mine.id = jobs.id
        and {ours}
      returning jobs.id, jobs.job_queue_id, jobs.run_at, jobs.attempts, jobs.max_attempts
    ),
    freed_queues as (
      update {schema}._private_job_queues as queues
      set locked_by = null, locked_at = null
      where queues.id = any(array(select returned.job_queue_id from returned))
        and queues.locked_by = $1::text
    )
    select returned.id, {announced}
    from returned
""".replace("{ours}", OURS).replace("{announced}", ANNOUNCED)
)
# $5 seconds until they may run again or null for at once, $6 new payloads or null.
# A detached or retired job keeps its attempts, or it would run again, and its error says so.


async def return_jobs(executor: Executor, worker_id: str, returns: Sequence[Returned | Snoozed]) -> set[int]:
    """Give jobs back with their attempt, at once or for later; return the ids that were still ours."""
    rows = await executor.fetch(
        RETURN_JOBS,
        worker_id,
        *fences([back.job for back in returns]),
        [back.delay if isinstance(back, Snoozed) else None for back in returns],
        [back.payload_json for back in returns],
    )
    return {row["id"] for row in rows}
