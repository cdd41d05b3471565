"""Lists tasks by identifier, with their jobs by state, counted up to a limit; and tasks without a worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.estimates import (
    FAILED_INDEX,
    QUEUED_INDEX,
    TASK_INDEX,
    usable_indexes,
)
from trio_graphile._database.summaries.levels import CAP, COUNTED, LEVELS_OF_TASKS, cap_of_each
from trio_graphile._model.diagnosis import Neglected
from trio_graphile._model.instants import time_of
from trio_graphile._model.listing import Count, FoundTasks, TaskSummary

WINDOW = 20_000
"""How many jobs are read where no index has them by task."""
_PRIORITIES = 100
"""In how many priorities we look for the jobs of a task."""

FIND_TASKS = Statement("""
    select tasks.id, tasks.identifier
    from {schema}._private_tasks as tasks
    where tasks.identifier >= coalesce($1::text, '')
      and tasks.identifier is distinct from $1::text
    order by tasks.identifier
    limit $2::bigint
""")  # $1 the identifier after which they begin or null, $2 how many


async def summarize_tasks(
    executor: Executor, after: str | None = None, limit: int = 50, *, cap: int = CAP, window: int = WINDOW
) -> FoundTasks:
    """Return the tasks of all programs after an identifier, by identifier.

    Up to `cap` jobs of each task and state are counted, fewer where there are many tasks. No index has the
    jobs in named queues by task, so the `window` of them that run first are read; if there are more, all
    counts are estimates.
    """
    found = await executor.fetch(FIND_TASKS, after, limit + 1)
    tasks = {row["id"]: row["identifier"] for row in found[:limit]}
    ids = list(tasks)
    cap = cap_of_each(cap, len(ids))
    waiting = await _count_waiting(executor, ids, cap, _PRIORITIES, window)
    failed = await _count_failed(executor, ids, cap, window)
    return FoundTasks(
        tasks=tuple(_summary(id_, tasks[id_], waiting[id_], failed[id_], cap) for id_ in ids),
        next=found[limit - 1]["identifier"] if len(found) > limit else None,
    )


COUNT_UNQUEUED = Statement(f"""
    with recursive {LEVELS_OF_TASKS}
    select levels.task_id, {COUNTED}
    from levels
    group by levels.task_id
""")  # $1 how many are counted of each kind, $2 in how many priorities at most, $3 task ids

COUNT_QUEUED = Statement("""
    with entries as materialized (
      select jobs.task_id, jobs.run_at
      from {schema}._private_jobs as jobs
      where jobs.is_available = true
        and jobs.job_queue_id is not null
      order by jobs.priority, jobs.run_at, jobs.id
      limit $2::bigint + 1
    ),
    counted as materialized (
      select entries.task_id,
        count(*) filter (where entries.run_at <= now()) as ready,
        count(*) filter (where entries.run_at > now()) as scheduled,
        min(entries.run_at) filter (where entries.run_at <= now()) as oldest_ready_at
      from entries
      where entries.task_id = any($1::integer[])
      group by entries.task_id
    )
    select wanted.id as task_id,
      coalesce(counted.ready, 0) as ready,
      coalesce(counted.scheduled, 0) as scheduled,
      (select count(*) <= $2::bigint from entries) as is_complete,
      date_part('epoch', counted.oldest_ready_at) as oldest_ready_at
    from unnest($1::integer[]) as wanted(id)
    left join counted on counted.task_id = wanted.id
""")  # $1 task ids, $2 how many jobs are looked at

COUNT_FAILED_OF_TASKS = Statement("""
    select wanted.id as task_id, entries.jobs <= $2::bigint as is_complete,
      case
        when entries.jobs > $2::bigint then $2::bigint
        else (
          select count(*)
          from (
            select jobs.locked_at
            from {schema}._private_jobs as jobs
            where jobs.attempts >= jobs.max_attempts
              and jobs.task_id = wanted.id
            order by jobs.run_at, jobs.id
            limit $2::bigint
          ) as last_attempts
          where last_attempts.locked_at is null
        )
      end as failed
    from unnest($1::integer[]) as wanted(id)
    cross join lateral (
      select count(*) as jobs
      from (
        select
        from {schema}._private_jobs as jobs
        where jobs.attempts >= jobs.max_attempts
          and jobs.task_id = wanted.id
        order by jobs.run_at, jobs.id
        limit $2::bigint + 1
      ) as first_entries
    ) as entries
""")
# $1 task ids, $2 how many are counted. The index shows only how many jobs have no attempt left. If they are
# few, we read each, since it may be running for the last time.

COUNT_NEWEST = Statement("""
    with newest as materialized (
      select jobs.task_id, jobs.run_at, jobs.is_available, jobs.locked_at
      from {schema}._private_jobs as jobs
      order by jobs.id desc
      limit $2::bigint + 1
    )
    select wanted.id as task_id,
      count(*) filter (where newest.is_available and newest.run_at <= now()) as ready,
      count(*) filter (where newest.is_available and newest.run_at > now()) as scheduled,
      count(*) filter (where not newest.is_available and newest.locked_at is null) as failed,
      (select count(*) <= $2::bigint from newest) as is_complete,
      date_part(
        'epoch',
        min(newest.run_at) filter (where newest.is_available and newest.run_at <= now())
      ) as oldest_ready_at
    from unnest($1::integer[]) as wanted(id)
    left join newest on newest.task_id = wanted.id
    group by wanted.id
""")  # $1 task ids, $2 how many jobs are looked at


def _summary(task_id: int, identifier: str, waiting: Sequence[Row], failed: Row, cap: int) -> TaskSummary:
    is_partial = not all(row["is_complete"] for row in waiting)
    return TaskSummary(
        id=task_id,
        identifier=identifier,
        ready=_count(sum(row["ready"] for row in waiting), cap, is_partial=is_partial),
        scheduled=_count(sum(row["scheduled"] for row in waiting), cap, is_partial=is_partial),
        failed=_count(failed["failed"], cap, is_partial=not failed["is_complete"]),
        oldest_ready_at=_oldest(waiting),
    )


def _count(value: int, cap: int, *, is_partial: bool) -> Count:
    return Count(value=min(value, cap), is_estimate=is_partial or value > cap)


def _oldest(waiting: Sequence[Row]) -> datetime | None:
    times = [row["oldest_ready_at"] for row in waiting if row["oldest_ready_at"] is not None]
    return time_of(min(times, default=None))


async def _count_waiting(
    executor: Executor, ids: Sequence[int], cap: int, priorities: int, window: int
) -> dict[int, list[Row]]:
    """Count the available jobs of tasks: in both indexes, or else among the newest jobs."""
    if (await usable_indexes(executor)).keys() >= {TASK_INDEX, QUEUED_INDEX}:
        parts = [
            await executor.fetch(COUNT_UNQUEUED, cap, priorities, ids),
            await executor.fetch(COUNT_QUEUED, ids, window),
        ]
    else:
        parts = [await executor.fetch(COUNT_NEWEST, ids, window)]
    by_task: dict[int, list[Row]] = {id_: [] for id_ in ids}
    for row in chain.from_iterable(parts):
        by_task[row["task_id"]].append(row)
    return by_task


async def _count_failed(executor: Executor, ids: Sequence[int], cap: int, window: int) -> dict[int, Row]:
    if FAILED_INDEX in await usable_indexes(executor):
        rows = await executor.fetch(COUNT_FAILED_OF_TASKS, ids, cap)
    else:
        rows = await executor.fetch(COUNT_NEWEST, ids, window)
    return {row["task_id"]: row for row in rows}


# --- tasks that nobody has ----------------------------------------------------------------------

_MOST_TASKS = 1000  # that are looked at for neglected jobs
_MOST_NEGLECTED_JOBS = 1000  # of a task
_MOST_NEGLECTED_PRIORITIES = 10  # of a task
_MOST_NEGLECTED_TASKS = 100  # that are returned

FIND_OTHER_TASKS = Statement("""
    select tasks.id, tasks.identifier, now() - make_interval(secs => $3::float8) as latest
    from {schema}._private_tasks as tasks
    where tasks.identifier <> all($1::text[])
    order by tasks.identifier
    limit $2::bigint
""")  # $1 the tasks that somebody has, $2 how many, $3 seconds


async def find_neglected(
    executor: Executor, advertised: Sequence[str], neglected_after: float = 60.0
) -> list[Neglected]:
    """Return tasks that no worker advertises though their jobs have been due for `neglected_after` seconds.

    Reads 1,000 tasks, counts up to 500 due jobs of each and more where there are few tasks, and returns 100:
    there may be more of all of these.
    """
    tasks = await executor.fetch(FIND_OTHER_TASKS, advertised, _MOST_TASKS, neglected_after)
    ids = [row["id"] for row in tasks]
    cap = cap_of_each(_MOST_NEGLECTED_JOBS, len(ids))
    waiting = await _count_waiting(executor, ids, cap, _MOST_NEGLECTED_PRIORITIES, WINDOW)
    found = [
        Neglected(identifier=task["identifier"], jobs=sum(row["ready"] for row in rows), since=since)
        for task in tasks
        if (since := _oldest(rows := waiting[task["id"]])) is not None and since < task["latest"]
    ]
    return found[:_MOST_NEGLECTED_TASKS]
