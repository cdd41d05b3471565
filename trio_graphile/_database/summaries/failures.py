"""Groups failed jobs whose errors begin alike: the latest of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.folding import ERROR_GROUP
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.estimates import FAILED_INDEX, usable_indexes
from trio_graphile._model.instants import time_of
from trio_graphile._model.listing import Count, FailureGroup

MOST_OF_TASK = 10_000
"""How many failed jobs of a task are read."""
WINDOW = 20_000
"""How many failed jobs are read in all."""
_MOST_COUNTED_JOBS = 1_000_000  # of all tasks together
_MOST_TASKS = 1000  # of which failures are counted

FIND_FAILED_TASKS = Statement("""
    with recursive failed as (
      (
        select jobs.task_id, 1 as place
        from {schema}._private_jobs as jobs
        where jobs.attempts >= jobs.max_attempts
        order by jobs.task_id, jobs.run_at, jobs.id
        limit 1
      )
      union all
      select next.task_id, failed.place + 1
      from failed
      cross join lateral (
        select jobs.task_id
        from {schema}._private_jobs as jobs
        where jobs.attempts >= jobs.max_attempts
          and jobs.task_id > failed.task_id
        order by jobs.task_id, jobs.run_at, jobs.id
        limit 1
      ) as next
      where failed.place < $1::integer
    )
    select failed.task_id
    from failed
    order by failed.task_id
""")  # $1 how many. From one task to the next by the index, whatever number of jobs stands between.

FIND_NAMED_TASKS = Statement("""
    select tasks.id as task_id
    from {schema}._private_tasks as tasks
    where tasks.identifier = any($1::text[])
    order by tasks.identifier
    limit $2::bigint
""")  # $1 identifiers, $2 how many

_SEEN = f"""jobs.id, jobs.task_id, {ERROR_GROUP} as error,
        jobs.attempts >= jobs.max_attempts and jobs.locked_at is null as is_failed,
        greatest(
          jobs.created_at,
          jobs.run_at - exp(greatest(least(jobs.attempts, 10), 0)) * interval '1 second'
        ) as failed_at"""
# No column says when a job failed. Its `run_at` was set to so much later, unless somebody failed it by hand.
_GROUPS = """groups as (
      select seen.task_id, seen.error, count(*) as jobs, max(seen.failed_at) as latest_at,
        (array_agg(seen.id order by seen.failed_at desc, seen.id desc))[1] as example_id
      from seen
      where seen.is_failed
      group by seen.task_id, seen.error
    )
    select coalesce(tasks.identifier, '') as task_identifier, groups.error, groups.jobs,
      groups.task_id, {is partial} as is_partial,
      date_part('epoch', groups.latest_at) as latest_at, groups.example_id
    from groups
    left join {schema}._private_tasks as tasks on tasks.id = groups.task_id
    order by groups.jobs desc, groups.latest_at desc, groups.example_id desc
    limit $3::bigint
"""

GROUP_FAILURES = Statement(
    f"""
    with seen as materialized (
      select latest.id, latest.task_id, latest.error, latest.is_failed, latest.failed_at
      from unnest($1::integer[], $2::bigint[]) as wanted(id, share)
      cross join lateral (
        select {_SEEN}
        from {{schema}}._private_jobs as jobs
        where jobs.attempts >= jobs.max_attempts
          and jobs.task_id = wanted.id
        order by jobs.run_at desc, jobs.id desc
        limit wanted.share
      ) as latest
    ),
    """
    + _GROUPS.replace("{is partial}", "false")
)
# $1 task ids, $2 how many jobs of each are read, $3 how many groups are wanted. Jobs that run for the last
# time are read, too, and dropped.

GROUP_NEWEST_FAILURES = Statement(
    f"""
    with newest as materialized (
      select jobs.id, jobs.task_id, jobs.attempts, jobs.max_attempts, jobs.locked_at, jobs.run_at,
        jobs.created_at,
        case when jobs.attempts >= jobs.max_attempts then jobs.last_error end as last_error
      from {{schema}}._private_jobs as jobs
      order by jobs.id desc
      limit $2::bigint
    ),
    seen as materialized (
      select {_SEEN}
      from newest as jobs
      where $1::integer[] is null or jobs.task_id = any($1::integer[])
    ),
    """
    + _GROUPS.replace("{is partial}", "(select count(*) >= $2::bigint from newest)")
)  # $1 task ids or null for all, $2 how many jobs are looked at, $3 as above


async def group_failures(
    executor: Executor,
    identifiers: Sequence[str] = (),
    limit: int = 100,
    *,
    most_of_task: int = MOST_OF_TASK,
    window: int = WINDOW,
) -> list[FailureGroup]:
    """Return the groups of failed jobs of these tasks, or of all, the largest first.

    Reads the `most_of_task` latest failures of each task, and `window` in all, shared out among the tasks. If
    there are more, counts are estimates, and lower bounds.
    """
    named = None
    if identifiers:
        named = await executor.fetch(FIND_NAMED_TASKS, list(identifiers), _MOST_TASKS)
    if FAILED_INDEX in await usable_indexes(executor):
        tasks = await executor.fetch(FIND_FAILED_TASKS, _MOST_TASKS) if named is None else named
        counts = await _count_last_attempts(executor, _ids(tasks), most_of_task)
        shares = share_out(window, {id_: min(count, most_of_task) for id_, count in counts.items()})
        rows = await executor.fetch(GROUP_FAILURES, list(shares), list(shares.values()), limit)
        partial = {id_ for id_, share in shares.items() if counts[id_] > share}
    else:
        ids = None if named is None else _ids(named)
        rows = await executor.fetch(GROUP_NEWEST_FAILURES, ids, window, limit)
        partial = set()
    return [_group(row, is_partial=row["is_partial"] or row["task_id"] in partial) for row in rows]


def _ids(tasks: Sequence[Row]) -> list[int]:
    return [row["task_id"] for row in tasks]


def share_out(window: int, counts: Mapping[int, int]) -> dict[int, int]:
    """Return how many are read of each: all of the few, and an equal share of the rest of the many."""
    shares: dict[int, int] = {}
    left = window
    for place, (id_, count) in enumerate(sorted(counts.items(), key=itemgetter(1))):
        shares[id_] = min(count, max(1, left // (len(counts) - place)))
        left -= shares[id_]
    return shares


COUNT_LAST_ATTEMPTS = Statement("""
    select wanted.id as task_id, entries.jobs
    from unnest($1::integer[]) as wanted(id)
    cross join lateral (
      select count(*) as jobs
      from (
        select
        from {schema}._private_jobs as jobs
        where jobs.attempts >= jobs.max_attempts
          and jobs.task_id = wanted.id
        order by jobs.run_at desc, jobs.id desc
        limit $2::bigint + 1
      ) as latest
    ) as entries
""")  # $1 task ids, $2 how many of each are counted. By the index alone, which has them all.


async def _count_last_attempts(executor: Executor, ids: Sequence[int], most: int) -> dict[int, int]:
    most = min(most, _MOST_COUNTED_JOBS // max(1, len(ids)))
    return {row["task_id"]: row["jobs"] for row in await executor.fetch(COUNT_LAST_ATTEMPTS, ids, most)}


def _group(row: Row, *, is_partial: bool) -> FailureGroup:
    return FailureGroup(
        error=row["error"],
        task_identifier=row["task_identifier"],
        count=Count(value=row["jobs"], is_estimate=is_partial),
        latest_at=time_of(row["latest_at"]),
        example_id=row["example_id"],
    )
