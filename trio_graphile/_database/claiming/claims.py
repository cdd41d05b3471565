"""The whole claim: it takes the best jobs, whatever is in the way, and at most one of each named queue."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent

from trio_graphile._database.claiming.conditions import (
    CLAIMED,
    FITS_RULES,
    FROM_START,
    UNTIL_END,
    conditions_of,
)
from trio_graphile._database.claiming.look_back import Position
from trio_graphile._database.connection import Executor
from trio_graphile._database.rows import claimed_jobs
from trio_graphile._database.statement import Statement
from trio_graphile._model.bounds import ANY_JOB, ClaimRules
from trio_graphile._model.jobs import Job

# The whole claim. It takes whatever is to be had, so every claim could be this one; it is used where no
# plain claim is known to be enough. It costs 8 to 15 us a job if 500 are claimed at once, and 25 to 35 if
# 24 are: the table is in the package's docstring.
#
# The best jobs stand first in an index: that is the head, of jobs without a queue (`unqueued_head`) and
# of jobs in named queues (`queued_head`). A claim looks there, and mostly needs no more:
#
# 1. `unqueued_in_head` locks the best jobs without a queue, in the order of the index, unless the head is
#    `blocked`: full of jobs that we have to leave alone, since their tasks are foreign, or they are due
#    later. It begins at `unqueued_first`: before it there may be many dead rows, which the head has stepped
#    over.
# 2. Past a blocked head, jobs are found by rank: a rank is one task with one priority. `best_per_rank`
#    has the best jobs of all ranks, twice as many as are wanted, and `unqueued_past_head` locks as many
#    as are wanted of them. To lock the best of each rank would lock many more; only if somebody else has
#    locked too many of them, `unqueued_past_locked` does so.
# 3. `queued_in_head` locks the best job of each named queue that has one in the head. It heeds no start:
#    a job that waits for its queue may come before it, and has to be the queue's next.
# 4. Where that was not enough, and some free queue has no job for us in the head (`queues_missed`), for
#    instance since it is full of jobs of locked queues, `queued_past_head` asks each queue for its best
#    job.
# 5. `chosen` are the best of all these. They are claimed, and their queues are locked.
#
# For the planner, who may plan while the table is empty, or before anybody analyzed it, and keeps its
# plan:
#
# - Rows that were found are looked up by arrays of ids. A join might read the whole table.
# - `id` ends the order where an index of ours is to serve it, since no other index ends with it.
# - `is not false`, of an availability that is never null, does what `= true` does, but for the indexes of
#   what is available: without statistics the planner would read one, and the crowd in it, for a few ids.
#   In the same way `is true` keeps it from looking a job up by its queue.
# - The best jobs of queues are in order before their queues are looked up, and are looked up only until
#   there are enough.
# - The text is short enough for the driver to keep it prepared, as a test sees to; so its indentation goes.

GET_JOBS = Statement(
    dedent(f"""
    with recursive wanted_tasks as materialized (
      select asked.place, (
          select tasks.id
          from {{schema}}._private_tasks as tasks
          where tasks.identifier = asked.identifier
        ) as id
      from unnest($2::text[]) with ordinality as asked(identifier, place)
    ),
    unqueued_head as materialized (
      select jobs.task_id, jobs.priority, jobs.run_at
      from {{schema}}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is null
        and {FROM_START}
        and {UNTIL_END}
      order by jobs.priority, jobs.run_at
      limit $3::integer + 100
    ),
    blocked as materialized (
      select count(*) > $3::integer + 99
        and count(*) filter (
          where task_id = any(array(select id from wanted_tasks))
            and run_at <= now()
        ) < $3::integer as is_so
      from unqueued_head
    ),
    unqueued_first as materialized (
      select priority, run_at
      from unqueued_head
      order by priority, run_at
      limit 1
    ),
    unqueued_in_head as (
      select jobs.id, jobs.priority, jobs.run_at
      from {{schema}}._private_jobs as jobs
      where not (select is_so from blocked)
        and jobs.is_available = true
        and jobs.job_queue_id is null
        and (jobs.priority, jobs.run_at)
          >= ((select priority from unqueued_first), (select run_at from unqueued_first))
        and {UNTIL_END}
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select id from wanted_tasks))
        and {FITS_RULES}
      order by jobs.priority, jobs.run_at
      limit $3::integer
      for update skip locked
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
      where (select is_so from blocked)
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
    best_per_rank as materialized (
      select best.id, best.priority, best.run_at
      from ranks
      cross join lateral (
        select jobs.id, jobs.priority, jobs.run_at
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority = ranks.priority
          and (jobs.run_at, jobs.id) >= (ranks.run_at, ranks.id)
          and jobs.run_at <= now()
          and {FITS_RULES}
        order by jobs.run_at, jobs.id
        limit $3::integer * 2
      ) as best
      order by best.priority, best.run_at
      limit $3::integer * 2
    ),
    unqueued_past_head as materialized (
      select jobs.id, jobs.priority, jobs.run_at
      from {{schema}}._private_jobs as jobs
      where jobs.id = any(array(select id from best_per_rank))
        and jobs.is_available is not false
        and jobs.job_queue_id is null
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select id from wanted_tasks))
        and {FITS_RULES}
      order by jobs.priority, jobs.run_at
      limit $3::integer
      for update skip locked
    ),
    too_many_locked as materialized (
      select (select count(*) from best_per_rank) = $3::integer * 2
        and (select count(*) from unqueued_past_head) < $3::integer as is_so
    ),
    unqueued_past_locked as (
      select best.id, best.priority, best.run_at
      from ranks
      cross join lateral (
        select jobs.id, jobs.priority, jobs.run_at
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority = ranks.priority
          and (jobs.run_at, jobs.id) >= (ranks.run_at, ranks.id)
          and jobs.run_at <= now()
          and {FITS_RULES}
        order by jobs.run_at, jobs.id
        limit $3::integer
        for update of jobs skip locked
      ) as best
      where (select is_so from too_many_locked)
    ),
    queued_head as materialized (
      select jobs.id, jobs.job_queue_id, jobs.priority, jobs.run_at,
        jobs.run_at <= now()
          and jobs.task_id = any(array(select id from wanted_tasks))
          and {FITS_RULES} as is_wanted
      from {{schema}}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is not null
        and $10::smallint is null
      order by jobs.priority, jobs.run_at, jobs.id
      limit ($3::integer * 6 + 100) * $9::integer
    ),
    queued_in_head as materialized (
      select jobs.id, jobs.priority, jobs.run_at, queues.id as job_queue_id
      from (
        select best.id, best.job_queue_id, best.priority, best.run_at
        from (
          select distinct on (job_queue_id) id, job_queue_id, priority, run_at
          from queued_head
          where is_wanted
          order by job_queue_id, priority, run_at, id
        ) as best
        order by best.priority, best.run_at
      ) as best_per_queue
      join {{schema}}._private_job_queues as queues on queues.id = best_per_queue.job_queue_id
      join {{schema}}._private_jobs as jobs on jobs.id = best_per_queue.id
      where queues.is_available = true
        and (jobs.job_queue_id = queues.id) is true
        and jobs.is_available is not false
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select id from wanted_tasks))
        and {FITS_RULES}
      order by best_per_queue.priority, best_per_queue.run_at
      limit $3::integer
      for no key update of queues skip locked
      for update of jobs skip locked
    ),
    queues_missed as materialized (
      select (select count(*) from queued_head) = ($3::integer * 6 + 100) * $9::integer
        and (select count(*) from queued_in_head) < $3::integer
        and exists (
          select from {{schema}}._private_job_queues as queues
          where queues.is_available = true
            and queues.id not in (select job_queue_id from queued_head where is_wanted)
        ) as is_so
    ),
    queues_with_jobs as (
      (
        select jobs.job_queue_id
        from {{schema}}._private_jobs as jobs
        where (select is_so from queues_missed)
          and jobs.is_available = true
          and jobs.job_queue_id is not null
        order by jobs.job_queue_id
        limit 1
      )
      union all
      select next.job_queue_id
      from queues_with_jobs
      cross join lateral (
        select jobs.job_queue_id
        from {{schema}}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id > queues_with_jobs.job_queue_id
        order by jobs.job_queue_id
        limit 1
      ) as next
    ),
    queued_past_head as materialized (
      select jobs.id, jobs.priority, jobs.run_at, queues.id as job_queue_id
      from (
        select best.id, free.id as job_queue_id, best.priority, best.run_at
        from queues_with_jobs
        join {{schema}}._private_job_queues as free on free.id = queues_with_jobs.job_queue_id
        cross join lateral (
          select jobs.id, jobs.priority, jobs.run_at
          from {{schema}}._private_jobs as jobs
          where jobs.is_available = true
            and jobs.job_queue_id = free.id
            and jobs.run_at <= now()
            and jobs.task_id = any(array(select id from wanted_tasks))
            and {FITS_RULES}
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        ) as best
        where free.is_available = true
        order by best.priority, best.run_at
      ) as best_per_queue
      join {{schema}}._private_job_queues as queues on queues.id = best_per_queue.job_queue_id
      join {{schema}}._private_jobs as jobs on jobs.id = best_per_queue.id
      where queues.is_available = true
        and (jobs.job_queue_id = queues.id) is true
        and jobs.is_available is not false
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select id from wanted_tasks))
        and {FITS_RULES}
      order by best_per_queue.priority, best_per_queue.run_at
      limit $3::integer
      for no key update of queues skip locked
      for update of jobs skip locked
    ),
    chosen as materialized (
      select id, priority, run_at, null::integer as job_queue_id
      from unqueued_in_head
      union all
      select id, priority, run_at, null::integer
      from unqueued_past_head
      where not (select is_so from too_many_locked)
      union all
      select id, priority, run_at, null::integer
      from unqueued_past_locked
      union all
      select id, priority, run_at, job_queue_id
      from queued_in_head
      where not (select is_so from queues_missed)
      union all
      select id, priority, run_at, job_queue_id
      from queued_past_head
      order by priority, run_at
      limit $3::integer
    ),
    locked_queues as (
      update {{schema}}._private_job_queues as queues
      set locked_by = $1::text, locked_at = now()
      where queues.id = any(array(select job_queue_id from chosen))
    )
    update {{schema}}._private_jobs as jobs
    set attempts = jobs.attempts + 1, locked_by = $1::text, locked_at = now()
    where jobs.id = any(array(select id from chosen))
    returning {CLAIMED}
""")
)
# $1 worker id, $2 identifiers, $3 limit, then what `conditions_of` returns, $9 how many times as far as
# usual to look for jobs of named queues before each queue is asked, $10 and $11 priority and time of the end,
# or null.


async def get_jobs(
    executor: Executor,
    worker_id: str,
    identifiers: Sequence[str],
    limit: int,
    rules: ClaimRules = ANY_JOB,
    *,
    start: Position | None = None,
    end: Position | None = None,
    width: int = 1,
) -> list[Job]:
    """Claim the `limit` best of the due jobs that nobody has locked, at most one of each named queue.

    Jobs before `start` that have no queue are left out. If there is an `end`, those from there on need not be
    looked for, nor those in queues. `width` is how many times as far as usual to look for jobs of named
    queues before each queue is asked: what comes is the same. Must not run inside a longer transaction: it
    locks the queues that it takes from.
    """
    where = conditions_of(rules, start)
    until = (None, None) if end is None else (end.priority, end.run_at)
    rows = await executor.fetch(GET_JOBS, worker_id, list(identifiers), limit, *where, width, *until)
    return claimed_jobs(rows, worker_id, identifiers)
