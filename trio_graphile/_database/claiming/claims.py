"""How a worker claims jobs: one statement, which takes the best there are, of a named queue the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from trio_graphile._database.claiming.memory import Position
from trio_graphile._database.connection import Executor
from trio_graphile._database.rows import claimed_jobs, job_columns
from trio_graphile._database.statement import Statement
from trio_graphile._model.bounds import ANY_FLAGS, FlagRules
from trio_graphile._model.jobs import Job

_TASKS = """tasks as materialized (
      select wanted.place, (
          select tasks.id
          from {schema}._private_tasks as tasks
          where tasks.identifier = wanted.identifier
        ) as id
      from unnest($2::text[]) with ordinality as wanted(identifier, place)
    )"""
_FLAGS_FIT = """($4::text[] is null or (jobs.flags ?| $4::text[]) is not true)
          and ($5::text[] is null or (jobs.flags ?| $5::text[]) is true)
          and (
            $6::text[] is null
            or case jsonb_typeof(jobs.flags)
              when 'object' then jobs.flags - $6::text[] = '{}'::jsonb
              when 'array'
              then not jsonb_path_exists(jobs.flags - $6::text[], '$[*] ? (@.type() == "string")')
              when 'string' then jobs.flags ?| $6::text[]
              else true
            end
          )"""
# What `{flags fit}` stands for. A job's flags are what `?` finds, whatever others have written there.
_RANKS = """ranks as (
      select tasks.id as task_id, best.priority, best.run_at, best.id
      from tasks
      cross join lateral (
        select jobs.priority, jobs.run_at, jobs.id
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = tasks.id
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as best
      where {condition}
      union all
      select ranks.task_id, next.priority, next.run_at, next.id
      from ranks
      cross join lateral (
        select jobs.priority, jobs.run_at, jobs.id
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority > ranks.priority
        order by jobs.priority, jobs.run_at, jobs.id
        limit 1
      ) as next
    )"""
_DUE_OF_RANK = """select jobs.id, jobs.priority, jobs.run_at
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority = ranks.priority
          and (jobs.run_at, jobs.id) >= (ranks.run_at, ranks.id)
          and jobs.run_at <= now()
          and {flags fit}
        order by jobs.run_at, jobs.id"""
_HEADS_IN_FRONT = """
        select first.id, first.job_queue_id, first.priority, first.run_at
        from (
          select distinct on (front.job_queue_id)
            front.id, front.job_queue_id, front.priority, front.run_at
          from queued_front as front
          where front.is_wanted
          order by front.job_queue_id, front.priority, front.run_at, front.id
        ) as first
        order by first.priority, first.run_at
"""
_HEADS_BEHIND = """
        select best.id, queues.id as job_queue_id, best.priority, best.run_at
        from queues_behind as behind
        join {schema}._private_job_queues as queues on queues.id = behind.job_queue_id
        cross join lateral (
          select jobs.id, jobs.priority, jobs.run_at
          from {schema}._private_jobs as jobs
          where jobs.is_available = true
            and jobs.job_queue_id = queues.id
            and jobs.run_at <= now()
            and jobs.task_id = any(array(select tasks.id from tasks))
            and {flags fit}
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        ) as best
        where queues.is_available = true
        order by best.priority, best.run_at
"""
_LOCK_HEADS = """select jobs.id, jobs.priority, jobs.run_at, queues.id as job_queue_id
      from ({heads}      ) as head
      join {schema}._private_job_queues as queues on queues.id = head.job_queue_id
      join {schema}._private_jobs as jobs on jobs.id = head.id
      where queues.is_available = true
        and (jobs.job_queue_id = queues.id) is true
        and jobs.is_available is not false
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select tasks.id from tasks))
        and {flags fit}
      order by head.priority, head.run_at
      limit $3::integer
      for no key update of queues skip locked
      for update of jobs skip locked"""
_CLAIM_CHOSEN = """update {schema}._private_jobs as jobs
    set attempts = jobs.attempts + 1, locked_by = $1::text, locked_at = now()
    where jobs.id = any(array(select chosen.id from chosen))
    returning {columns}
"""
_PLACE_OF_TASK = "array_position(array(select tasks.id from tasks order by tasks.place), jobs.task_id)"


_QUEUE_NAME = """case
        when jobs.job_queue_id is not null then (
          select queues.queue_name
          from {schema}._private_job_queues as queues
          where queues.id = jobs.job_queue_id
        )
      end"""


def claim_statement(sql: str, queue_name: str = _QUEUE_NAME) -> Statement:
    """Return a statement that claims.

    `{tasks}`, `{flags fit}` and `{claim chosen}` stand for what all have in common.
    """
    columns = job_columns(task=_PLACE_OF_TASK, queue_name=queue_name, locked_by="null::text")
    claim_chosen = _CLAIM_CHOSEN.replace("{columns}", columns)
    common = {"{tasks}": _TASKS, "{flags fit}": _FLAGS_FIT, "{claim chosen}": claim_chosen}
    for name, text in common.items():
        sql = sql.replace(name, text)
    return Statement(sql)


def ranks_if(condition: str) -> str:
    """Return what finds, if the condition holds, the tasks and priorities of jobs without a queue."""
    return _RANKS.replace("{condition}", condition)


GET_JOBS = claim_statement(
    """
    with recursive {tasks},
    unqueued_front as materialized (
      select jobs.task_id, jobs.run_at
      from {schema}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is null
        and (jobs.priority, jobs.run_at)
          >= (coalesce($7::smallint, -32768), coalesce($8::timestamptz, '-infinity'))
      order by jobs.priority, jobs.run_at
      limit $3::integer + 100
    ),
    crowd as materialized (
      select count(*) > $3::integer + 99
        and count(*) filter (
          where front.task_id = any(array(select tasks.id from tasks))
            and front.run_at <= now()
        ) < $3::integer as is_in_the_way
      from unqueued_front as front
    ),
    unqueued as (
      select jobs.id, jobs.priority, jobs.run_at, null::integer as job_queue_id
      from {schema}._private_jobs as jobs
      where not (select crowd.is_in_the_way from crowd)
        and jobs.is_available = true
        and jobs.job_queue_id is null
        and (jobs.priority, jobs.run_at)
          >= (coalesce($7::smallint, -32768), coalesce($8::timestamptz, '-infinity'))
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select tasks.id from tasks))
        and {flags fit}
      order by jobs.priority, jobs.run_at
      limit $3::integer
      for update skip locked
    ),
    {ranks},
    due as materialized (
      select best.id, best.priority, best.run_at
      from ranks
      cross join lateral (
        {due of rank}
        limit $3::integer * 2
      ) as best
      order by best.priority, best.run_at
      limit $3::integer * 2
    ),
    unqueued_behind as materialized (
      select jobs.id, jobs.priority, jobs.run_at
      from {schema}._private_jobs as jobs
      where jobs.id = any(array(select due.id from due))
        and jobs.is_available is not false
        and jobs.job_queue_id is null
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select tasks.id from tasks))
        and {flags fit}
      order by jobs.priority, jobs.run_at
      limit $3::integer
      for update skip locked
    ),
    too_many_locked as materialized (
      select (select count(*) from due) = $3::integer * 2
        and (select count(*) from unqueued_behind) < $3::integer as is_so
    ),
    unqueued_beyond as (
      select best.id, best.priority, best.run_at
      from ranks
      cross join lateral (
        {due of rank}
        limit $3::integer
        for update of jobs skip locked
      ) as best
      where (select too_many_locked.is_so from too_many_locked)
    ),
    queued_front as materialized (
      select jobs.id, jobs.job_queue_id, jobs.priority, jobs.run_at,
        jobs.run_at <= now()
          and jobs.task_id = any(array(select tasks.id from tasks))
          and {flags fit} as is_wanted
      from {schema}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is not null
        and (jobs.priority, jobs.run_at)
          >= (coalesce($7::smallint, -32768), coalesce($8::timestamptz, '-infinity'))
      order by jobs.priority, jobs.run_at, jobs.id
      limit ($3::integer * 6 + 100) * $9::integer
    ),
    queued as materialized (
      {lock heads in front}
    ),
    more_behind as materialized (
      select (select count(*) from queued_front) = ($3::integer * 6 + 100) * $9::integer
        and (select count(*) from queued) < $3::integer
        and exists (
          select from {schema}._private_job_queues as queues
          where queues.is_available = true
            and queues.id not in (
              select queued_front.job_queue_id from queued_front where queued_front.is_wanted
            )
        ) as is_wanted
    ),
    queues_behind as (
      (
        select jobs.job_queue_id
        from {schema}._private_jobs as jobs
        where (select more_behind.is_wanted from more_behind)
          and jobs.is_available = true
          and jobs.job_queue_id is not null
        order by jobs.job_queue_id
        limit 1
      )
      union all
      select next.job_queue_id
      from queues_behind as behind
      cross join lateral (
        select jobs.job_queue_id
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id > behind.job_queue_id
        order by jobs.job_queue_id
        limit 1
      ) as next
    ),
    queued_behind as materialized (
      {lock heads behind}
    ),
    chosen as materialized (
      select id, priority, run_at, job_queue_id
      from unqueued
      union all
      select id, priority, run_at, null::integer
      from unqueued_behind
      where not (select too_many_locked.is_so from too_many_locked)
      union all
      select id, priority, run_at, null::integer
      from unqueued_beyond
      union all
      select id, priority, run_at, job_queue_id
      from queued
      where not (select more_behind.is_wanted from more_behind)
      union all
      select id, priority, run_at, job_queue_id
      from queued_behind
      order by priority, run_at
      limit $3::integer
    ),
    locked_queues as (
      update {schema}._private_job_queues as queues
      set locked_by = $1::text, locked_at = now()
      where queues.id = any(array(select chosen.job_queue_id from chosen))
    )
    {claim chosen}
""".replace("{ranks}", ranks_if("(select crowd.is_in_the_way from crowd)"))
    .replace("{due of rank}", _DUE_OF_RANK)
    .replace("{lock heads in front}", _LOCK_HEADS.replace("{heads}", _HEADS_IN_FRONT))
    .replace("{lock heads behind}", _LOCK_HEADS.replace("{heads}", _HEADS_BEHIND))
)
# $1 worker id, $2 identifiers, $3 limit, $4 to $6 forbidden, accepted and allowed flags or null, $7 priority
# and $8 time from which on to look, or null, $9 how many times as far as usual to look for the jobs of named
# queues.
#
# The best jobs stand first in an index, so that is where to look, unless a crowd that we have to leave alone
# stands before them: jobs of foreign tasks, later ones of a better priority, jobs of locked queues. A look at
# the front says which. Behind a crowd, jobs without a queue are found by task and priority (`ranks`, `due`),
# and those of named queues by queue (`queues_behind`, `queued_behind`); each by an index of ours, whose last
# column, `id`, ends the order so that only this index serves it.
# Nobody looks behind a front in which every free queue has a job for us.
# A row that somebody has locked is passed over, and the next one taken, however many there are: who holds a
# transaction open is not to hold up the rest. So rows are locked one after the other, best first, until there
# are enough, by the very query that finds them. Only behind a crowd, where each rank has an order of its own,
# that would lock as many of each: there twice as many are `due` as are wanted, and `unqueued_beyond` is for
# the case that this does not do. A named queue whose next job is locked is passed over as a whole.
#
# Heads are in order before their queues are looked up, and looked up only until there are enough.
#
# The queue's row is locked before its job's: whoever holds it decides alone which job of the queue is next,
# so a queue hands out one job at a time and in order. `no key update` lets adds to it go on meanwhile.
# A job that was found may be another's, in another queue, or flagged, by the time it is locked: its key was
# added again. So what may be claimed is said once more where jobs are locked, and there the job's queue is
# compared with the one that was locked (`is true` keeps the planner from looking the job up by its queue).
# There `is not false` says of an availability, which is never null, what `= true` does, and keeps the planner
# off the indexes of what is available: without statistics it would read one, and the crowd, for a few ids.
# Tasks are named, not numbered: a garbage collector may delete an idle task, and an add bring it back under
# another id. A job names its own by the place in $2, so that no name is looked up or sent for each
# job; nor is the worker's, which asks.
# Other rows are looked up by arrays of ids, not joined: a plan made while the table was empty, or before
# anybody analyzed it, might join by reading all of it.


async def get_jobs(
    executor: Executor,
    worker_id: str,
    identifiers: Sequence[str],
    limit: int,
    flags: FlagRules = ANY_FLAGS,
    *,
    floor: Position | None = None,
    width: int = 1,
) -> list[Job]:
    """Claim the `limit` best of the due jobs that nobody has locked, at most one of each named queue.

    Those before `floor` are left out. `width` is how many times as far as usual to look for those of named
    queues before each queue is asked: what comes is the same. Must not run inside a longer transaction: it
    locks the queues that it takes from.
    """
    where = (*rules_of(flags), *place_of(floor))
    rows = await executor.fetch(GET_JOBS, worker_id, list(identifiers), limit, *where, width)
    return claimed_jobs(rows, worker_id, identifiers)


def rules_of(flags: FlagRules) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """Return the parameters $4 to $6 of `GET_JOBS`."""
    return (
        list(flags.forbidden) or None,
        None if flags.accepted is None else list(flags.accepted),
        None if flags.allowed is None else list(flags.allowed),
    )


def place_of(floor: Position | None) -> tuple[int | None, datetime | None]:
    """Return the parameters $7 and $8 of `GET_JOBS`."""
    return (None, None) if floor is None else (floor.priority, floor.run_at)
