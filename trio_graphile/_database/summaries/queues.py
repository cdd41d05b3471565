"""Lists named queues by name, with the number of jobs that wait in each, counted up to a limit."""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.estimates import QUEUE_INDEX, usable_indexes
from trio_graphile._database.summaries.levels import CAP, cap_of_each
from trio_graphile._model.instants import time_of
from trio_graphile._model.listing import Count, FoundQueues, QueueSummary

WINDOW = 20_000
"""How many names are searched, or, without an index by queue, how many jobs are read."""

FIND_QUEUES = Statement("""
    with names as materialized (
      select queues.id, queues.queue_name, queues.locked_at, queues.locked_by
      from {schema}._private_job_queues as queues
      where queues.queue_name >= coalesce($1::text, '')
        and queues.queue_name is distinct from $1::text
      order by queues.queue_name
      limit $3::bigint
    )
    select found.id, found.queue_name, date_part('epoch', found.locked_at) as locked_at, found.locked_by,
      looked_at.scanned, looked_at.last_name
    from (
      select count(*) as scanned, max(names.queue_name) as last_name
      from names
    ) as looked_at
    left join lateral (
      select names.id, names.queue_name, names.locked_at, names.locked_by
      from names
      where $2::text is null or strpos(lower(names.queue_name), lower($2::text)) > 0
      order by names.queue_name
      limit $4::bigint + 1
    ) as found on true
    order by found.queue_name
""")
# $1 the name after which they begin or null, $2 what stands in the name or null, $3 how many names are looked
# at, $4 how many are wanted; one more says whether there are others


async def summarize_queues(
    executor: Executor,
    after: str | None = None,
    limit: int = 50,
    *,
    search: str | None = None,
    cap: int = CAP,
    window: int = WINDOW,
) -> FoundQueues:
    """Return the named queues after a name, by name; `search` selects names that contain it.

    Up to `cap` jobs of each are counted, fewer where there are many queues, and up to `window` names are
    searched.
    """
    looked_at = window if search else limit + 1
    rows = await executor.fetch(FIND_QUEUES, after, search or None, looked_at, limit)
    scanned, last_name = rows[0]["scanned"], rows[0]["last_name"]
    found = [row for row in rows if row["id"] is not None]
    queues, has_more = found[:limit], len(found) > limit
    cap = cap_of_each(cap, len(queues))
    waiting = await _count_waiting(executor, [row["id"] for row in queues], cap, window)
    next_ = queues[-1]["queue_name"] if has_more else last_name if scanned == looked_at else None
    return FoundQueues(
        queues=tuple(_summary(row, waiting[row["id"]], cap) for row in queues), next=next_, scanned=scanned
    )


_COUNT_WAITING = """
    select wanted.id, waiting.jobs, waiting.ready, head.id as head_id,
      case when head.is_due then date_part('epoch', head.run_at) end as waiting_since,
      case when head.id is not null then coalesce(tasks.identifier, '') end as head_task_identifier,
      {is partial} as is_partial
    from unnest($1::integer[]) as wanted(id)
    cross join lateral (
      select count(*) as jobs, count(*) filter (where entries.run_at <= now()) as ready
      from {entries}
    ) as waiting
    left join lateral (
      select entries.id, entries.run_at, entries.run_at <= now() as is_due
      from {entries}
      order by entries.run_at > now(),
        case when entries.run_at <= now() then entries.priority end,
        entries.run_at, entries.id
      limit 1
    ) as head on true
    left join {schema}._private_jobs as head_jobs on head_jobs.id = head.id
    left join {schema}._private_tasks as tasks on tasks.id = head_jobs.task_id
""".replace(
    "{entries}",
    """(
        select jobs.id, jobs.priority, jobs.run_at
        from {jobs} as jobs
        where jobs.is_available = true
          and jobs.job_queue_id = wanted.id
        order by jobs.priority, jobs.run_at, jobs.id
        limit $2::bigint + 1
      ) as entries""",
)

COUNT_WAITING = Statement(
    _COUNT_WAITING.replace("{jobs}", "{schema}._private_jobs").replace("{is partial}", "false")
)
# $1 queues, $2 how many jobs of each are looked at: those that run first. The head is one of these.

COUNT_WAITING_OF_NEWEST = Statement(
    """
    with newest as materialized (
      select jobs.id, jobs.job_queue_id, jobs.priority, jobs.run_at, jobs.is_available
      from {schema}._private_jobs as jobs
      order by jobs.id desc
      limit $3::bigint
    )
"""
    + _COUNT_WAITING.replace("{jobs}", "newest").replace(
        "{is partial}", "(select count(*) >= $3::bigint from newest)"
    )
)  # $1 and $2 as above, $3 among how many jobs


async def _count_waiting(executor: Executor, ids: Sequence[int], cap: int, window: int) -> dict[int, Row]:
    if QUEUE_INDEX in await usable_indexes(executor):
        rows = await executor.fetch(COUNT_WAITING, ids, cap)
    else:
        rows = await executor.fetch(COUNT_WAITING_OF_NEWEST, ids, cap, window)
    return {row["id"]: row for row in rows}


def _summary(queue: Row, waiting: Row, cap: int) -> QueueSummary:
    is_estimate = waiting["is_partial"] or waiting["jobs"] > cap
    return QueueSummary(
        id=queue["id"],
        queue_name=queue["queue_name"],
        locked_at=time_of(queue["locked_at"]),
        locked_by=queue["locked_by"],
        jobs=Count(value=min(waiting["jobs"], cap), is_estimate=is_estimate),
        ready=Count(value=min(waiting["ready"], cap), is_estimate=is_estimate),
        head_id=waiting["head_id"],
        head_task_identifier=waiting["head_task_identifier"],
        waiting_since=time_of(waiting["waiting_since"]),
    )
