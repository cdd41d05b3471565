"""Counts the available jobs of an index, skipping from one priority to the next."""

from __future__ import annotations

CAP = 10_000
"""Up to how many jobs of each kind are counted."""
_MOST_COUNTED_JOBS = 500_000  # of all tasks or queues together


def cap_of_each(cap: int, sources: int) -> int:
    """Return up to how many jobs of each task or queue are counted, so that the total is bounded."""
    return max(1, min(cap, _MOST_COUNTED_JOBS // max(1, sources)))


_LEVELS = """levels as (
      {start}
      union all
      select levels.task_id, next.priority, next.run_at, levels.ready + due.jobs,
        levels.scheduled + later.jobs, levels.place + 1
      from levels
      cross join lateral (
        select jobs.priority::integer as priority, jobs.run_at
        from {schema}._private_jobs as jobs
        where {these}
          and jobs.priority > levels.priority
        order by jobs.priority, jobs.run_at
        limit 1
      ) as next
      cross join lateral (
        select count(*) as jobs
        from (
          select
          from {schema}._private_jobs as jobs
          where {these}
            and jobs.priority = next.priority
            and jobs.run_at <= now()
          order by jobs.run_at
          limit $1::bigint + 1 - levels.ready
        ) as entries
      ) as due
      cross join lateral (
        select count(*) as jobs
        from (
          select
          from {schema}._private_jobs as jobs
          where {these}
            and jobs.priority = next.priority
            and jobs.run_at > now()
          order by jobs.run_at
          limit $1::bigint + 1 - levels.scheduled
        ) as entries
      ) as later
      where levels.place < $2::integer
    )"""
_START = """select {task} as task_id, -32769 as priority, null::timestamptz as first_run_at,
        0::bigint as ready, 0::bigint as scheduled, 0 as place"""

LEVELS_OF_ALL = _LEVELS.replace("{start}", _START.replace("{task}", "null::integer")).replace(
    "{these}", "jobs.is_available = true"
)
"""By `jobs_main_index`. $1 is how many jobs of each kind are counted at most, $2 in how many priorities at
most."""

LEVELS_OF_TASKS = _LEVELS.replace(
    "{start}", _START.replace("{task}", "wanted.id") + " from unnest($3::integer[]) as wanted(id)"
).replace(
    "{these}", "jobs.is_available = true and jobs.job_queue_id is null and jobs.task_id = levels.task_id"
)
"""As above, the jobs of the tasks $3 that have no queue, by `trio_graphile_task_index`."""

COUNTED = """max(levels.ready) as ready, max(levels.scheduled) as scheduled,
      max(levels.place) < $2::integer as is_complete,
      date_part(
        'epoch',
        min(levels.first_run_at) filter (where levels.first_run_at <= now())
      ) as oldest_ready_at"""
"""The sums over all levels. In each level the due jobs come first, the oldest before all."""
