"""The plain claims: they take what the whole one would, for less, where no job of a named queue is to be had.

Each sees to that itself: it takes nothing as soon as a queue that is free has a job, due or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.claiming.conditions import (
    CLAIMED_WITHOUT_QUEUE,
    FITS_RULES,
    FROM_START,
    conditions_of,
)
from trio_graphile._database.claiming.look_back import Position
from trio_graphile._database.claiming.memory import PlainClaim
from trio_graphile._database.connection import Executor
from trio_graphile._database.rows import claimed_jobs
from trio_graphile._database.statement import Statement
from trio_graphile._model.bounds import ANY_JOB, ClaimRules
from trio_graphile._model.jobs import Job

_FEW_QUEUES = 20
"""So many queues can each be asked, by every claim, whether one is free and has jobs."""
_FEW_RANKS = 3
"""Of so many ranks, that is pairs of a task and a priority, the best jobs can each be locked."""

_NOTHING_QUEUED = f"""(
          not exists (
            select from {{schema}}._private_jobs as queued
            where queued.is_available = true
              and queued.job_queue_id is not null
          )
          or (
            select count(*) <= {_FEW_QUEUES}
            from (select from {{schema}}._private_job_queues limit {_FEW_QUEUES + 1}) as few
          )
          and not exists (
            select from {{schema}}._private_job_queues as queues
            cross join lateral (
              select from {{schema}}._private_jobs as queued
              where queued.is_available = true
                and queued.job_queue_id = queues.id
              order by queued.priority, queued.run_at, queued.id
              limit 1
            ) as first
            where queues.is_available = true
          )
        )"""
# Whether no job of a named queue is to be had: none waits, or the queues are few, and those that have any are
# locked.

# The plain claim in the head, for what is most common: jobs without a queue that nothing stands before.
# It is used while the last probe found the head not blocked, and does not look itself: it would step over
# all of a crowd. Of what the whole claim costs it saves an eighth if 500 jobs are claimed at once, and
# two fifths if 24 are; beside jobs in locked queues two fifths, and nearly half.
GET_PLAIN_JOBS = Statement(f"""
    with wanted_tasks as materialized (
      select asked.place, (
          select tasks.id
          from {{schema}}._private_tasks as tasks
          where tasks.identifier = asked.identifier
        ) as id
      from unnest($2::text[]) with ordinality as asked(identifier, place)
    ),
    chosen as materialized (
      select jobs.id
      from {{schema}}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is null
        and {FROM_START}
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select id from wanted_tasks))
        and {FITS_RULES}
        and {_NOTHING_QUEUED}
      order by jobs.priority, jobs.run_at
      limit $3::integer
      for update of jobs skip locked
    )
    update {{schema}}._private_jobs as jobs
    set attempts = jobs.attempts + 1, locked_by = $1::text, locked_at = now()
    where jobs.id = any(array(select id from chosen))
    returning {CLAIMED_WITHOUT_QUEUE}
""")
# As in GET_JOBS, without the last.

# The plain claim past the head, for jobs without a queue behind a crowd that we have to leave alone. It
# is used while the last probe found the head blocked, and few ranks: it locks as many jobs of each rank
# as are wanted in all, and those that it does not take are nobody's until it ends. Of what the whole
# claim costs it saves a fifth if 500 jobs are claimed at once, and nearly two fifths if 24 are.
GET_PLAIN_JOBS_PAST_HEAD = Statement(f"""
    with recursive wanted_tasks as materialized (
      select asked.place, (
          select tasks.id
          from {{schema}}._private_tasks as tasks
          where tasks.identifier = asked.identifier
        ) as id
      from unnest($2::text[]) with ordinality as asked(identifier, place)
    ),
    ranks as (
      select wanted_tasks.id as task_id, first.priority, first.run_at, first.id
      from wanted_tasks
      cross join lateral (
        select jobs.priority, jobs.run_at, jobs.id
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = wanted_tasks.id
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as first
      where {_NOTHING_QUEUED}
      union all
      select ranks.task_id, next.priority, next.run_at, next.id
      from ranks
      cross join lateral (
        select jobs.priority, jobs.run_at, jobs.id
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority > ranks.priority
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as next
    ),
    chosen as materialized (
      select best.id
      from ranks
      cross join lateral (
        select jobs.id, jobs.priority, jobs.run_at
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority = ranks.priority
          and {FROM_START}
          and (jobs.run_at, jobs.id) >= (ranks.run_at, ranks.id)
          and jobs.run_at <= now()
          and {FITS_RULES}
        order by jobs.run_at, jobs.id
        limit $3::integer
        for update of jobs skip locked
      ) as best
      order by best.priority, best.run_at
      limit $3::integer
    )
    update {{schema}}._private_jobs as jobs
    set attempts = jobs.attempts + 1, locked_by = $1::text, locked_at = now()
    where jobs.id = any(array(select id from chosen))
    returning {CLAIMED_WITHOUT_QUEUE}
""")
# As in GET_JOBS, without the last.

_STATEMENTS = {PlainClaim.IN_HEAD: GET_PLAIN_JOBS, PlainClaim.PAST_HEAD: GET_PLAIN_JOBS_PAST_HEAD}


async def get_plain_jobs(
    executor: Executor,
    worker_id: str,
    identifiers: Sequence[str],
    limit: int,
    rules: ClaimRules = ANY_JOB,
    *,
    start: Position | None = None,
    which: PlainClaim,
) -> list[Job]:
    """Claim up to `limit` due jobs, best first; none if any job of a named queue waits, due or not.

    Jobs before `start` are left out.
    """
    where = conditions_of(rules, start)
    rows = await executor.fetch(_STATEMENTS[which], worker_id, list(identifiers), limit, *where)
    return claimed_jobs(rows, worker_id, identifiers)


# The probe: which plain claim would do. A worker that claims often runs it once a second, for 100 to 300 us.
PROBE = Statement(f"""
    with recursive wanted_tasks as materialized (
      select tasks.id
      from {{schema}}._private_tasks as tasks
      where tasks.identifier = any($1::text[])
    ),
    unqueued_head as materialized (
      select jobs.task_id, jobs.run_at
      from {{schema}}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is null
        and (jobs.priority, jobs.run_at)
          >= (coalesce($6::smallint, -32768), coalesce($7::timestamptz, '-infinity'))
      order by jobs.priority, jobs.run_at
      limit $2::integer + 100
    ),
    blocked as materialized (
      select count(*) > $2::integer + 99
        and count(*) filter (
          where task_id = any(array(select id from wanted_tasks))
            and run_at <= now()
        ) < $2::integer as is_so
      from unqueued_head
    ),
    ranks as (
      select wanted_tasks.id as task_id, first.priority
      from wanted_tasks
      cross join lateral (
        select jobs.priority
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = wanted_tasks.id
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as first
      union all
      select ranks.task_id, next.priority
      from ranks
      cross join lateral (
        select jobs.priority
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority > ranks.priority
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as next
    )
    select
      case
        when not {_NOTHING_QUEUED} then null
        when not (select is_so from blocked) then $3::text
        when (
          select count(*) between 1 and $5::integer
          from (
            select from ranks
            limit $5::integer + 1
          ) as few
        ) then $4::text
      end as plain_claim,
      pg_stat_get_dead_tuples(
        to_regclass($trio_graphile${{schema}}._private_jobs$trio_graphile$)
      ) as dead_rows
""")
# $1 identifiers, $2 limit, $3 what to answer if the head is not blocked, $4 if it is and there are few
# ranks, $5 how many ranks are few, $6 and $7 priority and time of the start, or null.


async def probe(
    executor: Executor, identifiers: Sequence[str], limit: int, *, start: Position | None = None
) -> tuple[PlainClaim | None, int]:
    """Return which plain claim is enough for so many jobs from `start` on, if one is; and how many dead rows.

    They were counted a second ago. After a crash the server begins to count anew.
    """
    which = PlainClaim.IN_HEAD.value, PlainClaim.PAST_HEAD.value
    at = (None, None) if start is None else (start.priority, start.run_at)
    [row] = await executor.fetch(PROBE, list(identifiers), limit, *which, _FEW_RANKS, *at)
    found = row["plain_claim"]
    return None if found is None else PlainClaim(found), row["dead_rows"] or 0
