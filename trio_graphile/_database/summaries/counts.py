"""Counts jobs by state: exactly up to a number, estimated beyond it, and exactly on demand."""

from __future__ import annotations

import attrs

from trio_graphile._database.connection import Executor, Row, Transactor
from trio_graphile._database.inspection import count_jobs, now
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.estimates import (
    FAILED_INDEX,
    MAIN_INDEX,
    PLAN_DUE,
    PLAN_LOCKED,
    PLAN_UNAVAILABLE,
    Sizes,
    estimate_rows,
    look_at_sizes,
)
from trio_graphile._database.summaries.levels import CAP, COUNTED, LEVELS_OF_ALL
from trio_graphile._model.instants import time_of
from trio_graphile._model.listing import Count, StateCounts

MOST_PRIORITIES = 500
"""In how many priorities we look for jobs: each costs a few pages."""

COUNT_FEW = Statement("""
    select count(*) as total,
      count(*) filter (where newest.is_available and newest.run_at <= now()) as ready,
      count(*) filter (where newest.is_available and newest.run_at > now()) as scheduled,
      count(*) filter (where newest.locked_at is not null) as locked,
      count(*) filter (where newest.locked_at is null and not newest.is_available) as failed,
      date_part(
        'epoch',
        min(newest.run_at) filter (where newest.is_available and newest.run_at <= now())
      ) as oldest_ready_at,
      now() as counted_at
    from (
      select jobs.is_available, jobs.run_at, jobs.locked_at
      from {schema}._private_jobs as jobs
      order by jobs.id desc
      limit $1::bigint + 1
    ) as newest
""")  # $1 how many are counted. Newest first: where jobs end, the index is full of those that did.


async def count_states(executor: Executor, *, locked: int | None = None, cap: int = CAP) -> StateCounts:
    """Count the jobs by state; estimate where there are more than `cap`.

    Reads a bounded number of rows. An estimate is never below the number that was counted. `locked` is how
    many jobs workers report to hold: of a few among millions the server has no statistics.
    """
    [few] = await executor.fetch(COUNT_FEW, cap)
    if few["total"] <= cap:
        exact = {name: Count(value=few[name]) for name in ("total", "ready", "scheduled", "locked", "failed")}
        return StateCounts(
            **exact, oldest_ready_at=time_of(few["oldest_ready_at"]), counted_at=few["counted_at"]
        )
    return await _count_many(executor, few, locked, cap)


COUNT_AVAILABLE = Statement(f"""
    with recursive {LEVELS_OF_ALL}
    select {COUNTED}
    from levels
""")  # $1 how many are counted of each kind, $2 in how many priorities at most


COUNT_FAILED = Statement("""
    select entries.jobs <= $1::bigint * 2 as is_complete,
      case
        when entries.jobs > $1::bigint * 2 then $1::bigint + 1
        else (
          select count(*)
          from (
            select jobs.locked_at
            from {schema}._private_jobs as jobs
            where jobs.attempts >= jobs.max_attempts
            order by jobs.task_id, jobs.run_at, jobs.id
            limit $1::bigint * 2
          ) as last_attempts
          where last_attempts.locked_at is null
        )
      end as failed
    from (
      select count(*) as jobs
      from (
        select
        from {schema}._private_jobs as jobs
        where jobs.attempts >= jobs.max_attempts
        order by jobs.task_id, jobs.run_at, jobs.id
        limit $1::bigint * 2 + 1
      ) as first_entries
    ) as entries
""")
# $1 how many are counted. The index shows only how many jobs have no attempt left. If they are few, we read
# each, since it may be running for the last time; there is room for some that do.


async def _count_many(executor: Executor, few: Row, told: int | None, cap: int) -> StateCounts:
    """Count by indexes what is few, and estimate the rest."""
    sizes = await look_at_sizes(executor)
    [available] = await executor.fetch(COUNT_AVAILABLE, cap, MOST_PRIORITIES)
    failed = await executor.fetch_row(COUNT_FAILED, cap) if FAILED_INDEX in sizes.indexes else None
    plans = (PLAN_LOCKED, PLAN_UNAVAILABLE, PLAN_DUE) if sizes.is_analyzed else ()
    expected = Expected(*[await estimate_rows(executor, plan) for plan in plans])
    locked = Count(value=max(few["locked"], expected.locked if told is None else told), is_estimate=True)
    states = {
        "locked": locked,
        "failed": _failed(few, failed, sizes, expected.unavailable - locked.value, cap),
    }
    taken = sum(count.value for count in states.values())
    known = sizes.indexes.get(MAIN_INDEX) if sizes.is_analyzed else None
    all_available = max(0, sizes.live_rows - taken) if known is None else known
    due = expected.due - expected.unavailable if sizes.is_analyzed else _share_of_ready(few, all_available)
    states.update(_ready_and_scheduled(available, all_available, due, cap))
    return StateCounts(
        **states,
        total=Count(value=max(few["total"], sum(count.value for count in states.values())), is_estimate=True),
        oldest_ready_at=time_of(available["oldest_ready_at"]),
        counted_at=few["counted_at"],
    )


@attrs.frozen
class Expected:
    """The numbers of rows that the planner expects."""

    locked: int = 0
    unavailable: int = 0
    due: int = 0


def _failed(few: Row, counted: Row | None, sizes: Sizes, otherwise: int, cap: int) -> Count:
    """Return how many have failed; `otherwise` if no index exists by which they were `counted`."""
    if counted is None:
        return Count(value=max(few["failed"], otherwise), is_estimate=True)
    if counted["is_complete"] and counted["failed"] <= cap:
        return Count(value=counted["failed"])
    return Count(value=max(counted["failed"], sizes.indexes[FAILED_INDEX] or 0), is_estimate=True)


def _share_of_ready(few: Row, available: int) -> int:
    """Return how many of the available jobs are ready, if the newest of them are typical."""
    seen: int = few["ready"] + few["scheduled"]
    return available * int(few["ready"]) // seen if seen else 0


def _ready_and_scheduled(counted: Row, available: int, due: int, cap: int) -> dict[str, Count]:
    """Return how many jobs wait for a slot, and how many for their time; together they are `available`.

    `available` is about how many there are of both, and `due` about how many of them are ready.
    """
    ready, scheduled = counted["ready"], counted["scheduled"]
    knows_ready = counted["is_complete"] and ready <= cap
    knows_scheduled = counted["is_complete"] and scheduled <= cap
    if not knows_ready:
        ready = max(ready, available - scheduled if knows_scheduled else min(due, available - scheduled))
    if not knows_scheduled:
        scheduled = max(scheduled, available - ready)
    return {
        "ready": Count(value=ready, is_estimate=not knows_ready),
        "scheduled": Count(value=scheduled, is_estimate=not knows_scheduled),
    }


LIMIT_COUNT = Statement("select set_config('statement_timeout', $1::text, true)")  # $1 a duration


async def count_exactly(database: Transactor, *, longest: float = 30.0) -> StateCounts:
    """Count all jobs by reading the whole table, which may take `longest` seconds.

    Raises `StatementFailed` if it takes longer. Sessions with a shorter timeout give up before.
    """
    async with database.transaction("read_committed") as connection:
        await connection.execute(LIMIT_COUNT, f"{round(longest * 1000)}ms")
        backlog = await count_jobs(connection)
        counted_at = await now(connection)
    states = {name: getattr(backlog, name) for name in ("ready", "scheduled", "locked", "failed")}
    oldest = backlog.oldest_ready
    return StateCounts(
        **{name: Count(value=value) for name, value in states.items()},
        total=Count(value=sum(states.values())),
        oldest_ready_at=None if oldest is None else time_of(counted_at.timestamp() - oldest),
        counted_at=counted_at,
    )
