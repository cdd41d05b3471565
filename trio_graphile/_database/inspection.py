"""What the queue holds: its jobs by state, task and queue, and the locks. No statement here changes anything.

All joins are outer joins: a job whose task or queue somebody deleted is listed, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._database.statement import Statement
from trio_graphile._model.inspection import (
    JobCounts,
    JobFilter,
    JobPage,
    JobState,
    ListedJob,
    LockHolder,
    QueueStatus,
    TaskStatus,
)
from trio_graphile._model.instants import time_of
from trio_graphile._model.statistics import Backlog

LIST_HIDDEN = Statement("""
    with policies as (
      select pg_policy.polrelid, pg_policy.polpermissive,
        pg_get_expr(pg_policy.polqual, pg_policy.polrelid) is not distinct from 'true' as shows_all
      from pg_catalog.pg_policy
      where pg_policy.polcmd in ('*', 'r')
        and exists (
          select
          from unnest(pg_policy.polroles) as role(id)
          where role.id = 0
            or pg_has_role(role.id, 'usage')
        )
    )
    select secured.relname::text as name
    from pg_catalog.pg_class as secured
    where secured.relnamespace = to_regnamespace($trio_graphile${schema}$trio_graphile$)::oid
      and secured.relrowsecurity
      and has_table_privilege(secured.oid, 'select')
      and row_security_active(secured.oid)
      and not coalesce(
        (
          select bool_or(policies.polpermissive and policies.shows_all)
            and bool_and(policies.polpermissive or policies.shows_all)
          from policies
          where policies.polrelid = secured.oid
        ),
        false
      )
    order by secured.relname
""")  # It needs no right on the schema.


async def list_hidden(executor: Executor) -> list[str]:
    """Return the tables of which row level security may hide rows from our role: the queue looks empty then.

    None if our role owns them, has BYPASSRLS, or a policy that shows it all rows.
    """
    return [row["name"] for row in await executor.fetch(LIST_HIDDEN)]


STATE = """case
        when jobs.locked_at is not null then 'locked'
        when jobs.attempts >= jobs.max_attempts then 'failed'
        when jobs.run_at > now() then 'scheduled'
        else 'ready'
      end"""


def listing(*beyond: str, **expressions: str) -> str:
    """Return the SQL of a select of jobs, to be read by `listed_job`; conditions can be added.

    `beyond` are columns after those of a listed job, `expressions` are those of `job_columns`.
    """
    columns = ", ".join(["jobs.is_available", "jobs.task_id", "jobs.job_queue_id", *beyond])
    return f"""
    select {job_columns(**expressions)},
      {STATE} as state,
      {columns}
    from {jobs_with_names()}
"""


LIST_JOBS = Statement(
    listing()
    + f"""
    where ($1::text is null or tasks.identifier = $1::text)
      and ($2::text is null or queues.queue_name = $2::text)
      and ($3::text is null or $3::text = {STATE})
      and ($4::text is null or jobs.key = $4::text)
      and ($5::text[] is null or jobs.flags ?& $5::text[])
      and ($6::text is null or jobs.locked_by = $6::text)
      and ($7::bigint is null or jobs.id > $7::bigint)
    order by jobs.id
    limit $8::bigint
    offset $9::bigint
"""
)
# $1 task, $2 queue, $3 state, $4 key, $5 flags, of which a job needs all, $6 who has it, null for any; $7 the
# id after which the page begins, so that pages stay right while jobs come and go; $8 and $9 the page


async def list_jobs(executor: Executor, which: JobFilter) -> JobPage:
    """Return one page of the jobs that meet the conditions, by id."""
    rows = await executor.fetch(
        LIST_JOBS,
        which.task_identifier,
        which.queue_name,
        None if which.state is None else which.state.value,
        which.key,
        which.flags or None,
        which.locked_by,
        which.after,
        which.limit + 1,  # the one more shows whether there is another page
        which.offset,
    )
    jobs = tuple(map(listed_job, rows[: which.limit]))
    is_last = len(rows) <= which.limit
    return JobPage(jobs=jobs, next=None if is_last else attrs.evolve(which, after=jobs[-1].job.id, offset=0))


GET_LISTED = Statement(
    listing()
    + """
    where jobs.id = any($1::bigint[])
    order by jobs.id
"""
)  # $1 job ids


async def get_listed(executor: Executor, ids: Sequence[int]) -> dict[int, ListedJob]:
    """Return the jobs with these ids, by id; those that do not exist are missing."""
    return {row["id"]: listed_job(row) for row in await executor.fetch(GET_LISTED, ids)}


def listed_job(row: Row) -> ListedJob:
    """Return the job in a row of `listing`, which may have more columns."""
    return ListedJob(
        job=job_from_row(row),
        state=JobState(row["state"]),
        is_available=row["is_available"],
        task_id=row["task_id"],
        job_queue_id=row["job_queue_id"],
    )


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
# One pass over the table, which reads no payload and waits for no lock: is_available says in one column that
# a job is not locked and has an attempt left.


async def count_jobs(executor: Executor) -> Backlog:
    """Count all jobs by state."""
    [row] = await executor.fetch(COUNT_JOBS)
    return Backlog(**row)


_COUNTS = """count(states.state) as total,
      count(*) filter (where states.state = 'ready') as ready,
      count(*) filter (where states.state = 'scheduled') as scheduled,
      count(*) filter (where states.state = 'locked') as locked,
      count(*) filter (where states.state = 'failed') as failed"""
_STATES = f"""(
      select jobs.task_id, jobs.job_queue_id, jobs.run_at, {STATE} as state
      from {{schema}}._private_jobs as jobs
    ) as states"""

LIST_TASKS = Statement(f"""
    select tasks.id, tasks.identifier, {_COUNTS},
      date_part('epoch', min(states.run_at) filter (where states.state = 'ready')) as oldest_ready_at
    from {{schema}}._private_tasks as tasks
    left join {_STATES} on states.task_id = tasks.id
    group by tasks.id, tasks.identifier
    order by tasks.identifier
""")


async def list_tasks(executor: Executor) -> list[TaskStatus]:
    """Return all tasks that the database knows, by identifier, with their jobs by state."""
    return [
        TaskStatus(
            id=row["id"],
            identifier=row["identifier"],
            oldest_ready_at=time_of(row["oldest_ready_at"]),
            counts=JobCounts(**{state: row[state] for state in ("total", *map(str, JobState))}),
        )
        for row in await executor.fetch(LIST_TASKS)
    ]


LIST_QUEUES = Statement(f"""
    select queues.id, queues.queue_name, date_part('epoch', queues.locked_at) as locked_at, queues.locked_by,
      count(states.state) as job_count,
      count(*) filter (where states.state = 'ready') as ready_count
    from {{schema}}._private_job_queues as queues
    left join {_STATES} on states.job_queue_id = queues.id
    group by queues.id, queues.queue_name, queues.locked_at, queues.locked_by
    order by queues.queue_name
""")


async def list_queues(executor: Executor) -> list[QueueStatus]:
    """Return all named queues, by name."""
    rows = await executor.fetch(LIST_QUEUES)
    return [QueueStatus(**{**row, "locked_at": time_of(row["locked_at"])}) for row in rows]


LIST_LOCK_HOLDERS = Statement("""
    select locks.worker_id, sum(locks.jobs)::bigint as locked_jobs, sum(locks.queues)::bigint as locked_queues
    from (
      select jobs.locked_by as worker_id, count(*) as jobs, 0 as queues
      from {schema}._private_jobs as jobs
      where jobs.locked_by is not null
      group by jobs.locked_by
      union all
      select queues.locked_by, 0, count(*)
      from {schema}._private_job_queues as queues
      where queues.locked_by is not null
      group by queues.locked_by
    ) as locks
    group by locks.worker_id
    order by locks.worker_id
""")


async def list_lock_holders(executor: Executor) -> list[LockHolder]:
    """Return the workers that have jobs or queues locked, by id."""
    return [LockHolder(**row) for row in await executor.fetch(LIST_LOCK_HOLDERS)]


READ_NOW = Statement("select now()")


async def now(executor: Executor) -> datetime:
    """Return the time by the clock that decides what is due."""
    time: datetime = await executor.fetch_value(READ_NOW)
    return time
