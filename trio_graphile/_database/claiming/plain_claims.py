"""How a worker claims jobs where nothing but jobs without a queue is to be had: for less than in `claims`."""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.claiming.claims import claim_statement, place_of, ranks_if, rules_of
from trio_graphile._database.claiming.memory import Plain, Position
from trio_graphile._database.connection import Executor
from trio_graphile._database.rows import claimed_jobs
from trio_graphile._database.statement import Statement
from trio_graphile._model.bounds import ANY_FLAGS, FlagRules
from trio_graphile._model.jobs import Job

_FEW_QUEUES = 20
_FEW_RANKS = 3

_FREE_QUEUE = """exists (
            select
            from {schema}._private_job_queues as queues
            cross join lateral (
              select
              from {schema}._private_jobs as queued
              where queued.is_available = true
                and queued.job_queue_id = queues.id
              order by queued.priority, queued.run_at, queued.id
              limit 1
            ) as head
            where queues.is_available = true
          )"""
# Whether a named queue that nobody has locked holds jobs. Asks each queue.
_QUEUED_JOB = """exists (
            select from {schema}._private_jobs as queued
            where queued.is_available = true
              and queued.job_queue_id is not null
          )"""

_NO_QUEUE = "null::text"
"""The name of a job's queue where there is none. Whatever table is not named need not be opened."""

_PLAIN_CLAIM = """
    with {tasks},
    chosen as materialized (
      select jobs.id
      from {schema}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is null
        and (jobs.priority, jobs.run_at)
          >= (coalesce($7::smallint, -32768), coalesce($8::timestamptz, '-infinity'))
        and jobs.run_at <= now()
        and jobs.task_id = any(array(select tasks.id from tasks))
        and {flags fit}
        and not {queued job}
      order by jobs.priority, jobs.run_at
      limit $3::integer
      for update of jobs skip locked
    )
    {claim chosen}
"""
GET_PLAIN_JOBS = claim_statement(_PLAIN_CLAIM.replace("{queued job}", _QUEUED_JOB), _NO_QUEUE)
GET_JOBS_BESIDE_LOCKED = claim_statement(_PLAIN_CLAIM.replace("{queued job}", _FREE_QUEUE), _NO_QUEUE)
# $1 to $8 as in GET_JOBS. What takes the same jobs for less, where none of named queues are to be had (the
# second looks into each of these), and no crowd stands in front: that is not looked for, and all of it would
# be stepped over.

GET_JOBS_BEHIND = claim_statement(
    """
    with recursive {tasks},
    {ranks},
    chosen as materialized (
      select best.id
      from ranks
      cross join lateral (
        select jobs.id, jobs.priority, jobs.run_at
        from {schema}._private_jobs as jobs
        where jobs.is_available = true
          and jobs.job_queue_id is null
          and jobs.task_id = ranks.task_id
          and jobs.priority = ranks.priority
          and (jobs.priority, jobs.run_at)
            >= (coalesce($7::smallint, -32768), coalesce($8::timestamptz, '-infinity'))
          and (jobs.run_at, jobs.id) >= (ranks.run_at, ranks.id)
          and jobs.run_at <= now()
          and {flags fit}
        order by jobs.run_at, jobs.id
        limit $3::integer
        for update of jobs skip locked
      ) as best
      order by best.priority, best.run_at
      limit $3::integer
    )
    {claim chosen}
""".replace("{ranks}", ranks_if(f"not {_QUEUED_JOB}")),
    _NO_QUEUE,
)
# $1 to $8 as in GET_JOBS. What takes the same jobs for less behind a crowd, where none of named queues are to
# be had. It locks so many jobs of each rank, so it is for few: the others are nobody's until it ends.


_BY_REASON = {
    Plain.NONE_QUEUED: GET_PLAIN_JOBS,
    Plain.QUEUES_LOCKED: GET_JOBS_BESIDE_LOCKED,
    Plain.BEHIND_CROWD: GET_JOBS_BEHIND,
}


async def get_plain_jobs(
    executor: Executor,
    worker_id: str,
    identifiers: Sequence[str],
    limit: int,
    flags: FlagRules = ANY_FLAGS,
    *,
    floor: Position | None = None,
    plain: Plain,
) -> list[Job]:
    """Claim up to `limit` due jobs, best first; none if any job of a named queue is to be had, due or not.

    Those before `floor` are left out.
    """
    where = (*rules_of(flags), *place_of(floor))
    rows = await executor.fetch(_BY_REASON[plain], worker_id, list(identifiers), limit, *where)
    return claimed_jobs(rows, worker_id, identifiers)


HOW_PLAIN = Statement(
    """
    with recursive tasks as materialized (
      select tasks.id
      from {schema}._private_tasks as tasks
      where tasks.identifier = any($1::text[])
    ),
    {ranks},
    front as materialized (
      select jobs.task_id, jobs.run_at
      from {schema}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is null
      order by jobs.priority, jobs.run_at
      limit $2::integer + 100
    )
    select
      case
        when (
          select count(*) > $2::integer + 99
            and count(*) filter (
              where front.task_id = any(array(select tasks.id from tasks))
                and front.run_at <= now()
            ) < $2::integer
          from front
        ) then (
          select case when count(*) between 1 and $7::integer then $5::text end
          from (
            select from ranks
            limit $7::integer + 1
          ) as few
        )
        when not {queued job} then $3::text
        when (
          select count(*) <= $6::integer
          from (
            select from {schema}._private_job_queues as queues
            limit $6::integer + 1
          ) as few
        ) and not {free queue} then $4::text
      end
""".replace("{free queue}", _FREE_QUEUE)
    .replace("{ranks}", ranks_if("not {queued job}"))
    .replace("{queued job}", _QUEUED_JOB)
)
# $1 identifiers, $2 limit, $3 to $5 what to answer if no jobs are queued, if all queues are locked, and
# if few ranks stand behind a crowd, $6 in how many queues to look for that, $7 how many ranks are few.


async def how_plain(executor: Executor, identifiers: Sequence[str], limit: int) -> Plain | None:
    """Return why claims of so many can be plain, if they can."""
    why = Plain.NONE_QUEUED.value, Plain.QUEUES_LOCKED.value, Plain.BEHIND_CROWD.value
    found = await executor.fetch_value(HOW_PLAIN, list(identifiers), limit, *why, _FEW_QUEUES, _FEW_RANKS)
    return None if found is None else Plain(found)
