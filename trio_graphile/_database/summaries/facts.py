"""Facts about one job and its surroundings, which show why it does not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._database import worker_registry
from trio_graphile._database.connection import Executor
from trio_graphile._database.inspection import get_listed, now
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.estimates import QUEUE_INDEX, TASK_INDEX, usable_indexes
from trio_graphile._database.summaries.levels import CAP
from trio_graphile._model.explanation import JobFacts, JobQueueFacts, LockOwner, TaskWorker
from trio_graphile._model.inspection import ListedJob
from trio_graphile._model.instants import time_of
from trio_graphile._model.listing import Count
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import ActiveWorker, SilentWorker, given_back_at
from trio_graphile._model.statistics import WorkerPhase

WINDOW = 20_000
"""How many jobs are read where no index helps."""


async def facts_of_job(
    executor: Executor,
    job_id: int,
    options: SweepOptions | None = None,
    *,
    cap: int = CAP,
    window: int = WINDOW,
) -> JobFacts | None:
    """Return the facts about a job, or None if there is no such job.

    `options` are those of the sweeps that take jobs back. Up to `cap` jobs before it are read; if there are
    more, its place is an estimate, and a lower bound.
    """
    listed = (await get_listed(executor, [job_id])).get(job_id)
    if listed is None:
        return None
    fleet_ = await _look_at_fleet(executor, options if options is not None else SweepOptions())
    limits = _Limits(cap=cap, window=window, indexes=frozenset(await usable_indexes(executor)))
    queue = await _look_at_queue(executor, listed, fleet_, limits)
    ahead = Count(value=0)
    if listed.job_queue_id is None:
        ahead, _ = await _count_ahead(executor, _OF_TASK, job_id, limits)
    return JobFacts(
        listed=listed,
        now=fleet_.now,
        workers=tuple(fleet_.with_task(listed.job.task_identifier)),
        silent_workers=sum(worker.tasks is None for worker in fleet_.live),
        queue=queue,
        ahead=ahead,
        owner=fleet_.owner(
            listed.job.locked_by, listed.job.locked_at, is_resilient=_is_resilient(listed, fleet_.options)
        ),
    )


@attrs.frozen(kw_only=True)
class _Limits:
    cap: int
    window: int
    indexes: frozenset[str]


# --- workers ------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Fleet:
    """The registered workers, and the rules by which they count as dead."""

    registered: Mapping[str, ActiveWorker]
    now: datetime
    options: SweepOptions

    @property
    def live(self) -> list[ActiveWorker]:
        return [worker for worker in self.registered.values() if not worker.is_stale]

    def with_task(self, identifier: str) -> Iterator[TaskWorker]:
        for worker in self.live:
            if identifier in (worker.tasks or ()):
                yield _task_worker(worker)

    def owner(
        self, worker_id: str | None, locked_at: datetime | None, *, is_resilient: bool = False
    ) -> LockOwner | None:
        """Return the holder of a lock. For an unregistered one, this lock stands for all: it has no index."""
        if worker_id is None:
            return None
        worker = self.registered.get(worker_id)
        silent = SilentWorker(
            worker_id=worker_id,
            is_registered=worker is not None,
            silent_for=0.0,
            holds_resilient=is_resilient and worker is not None,
        )
        last_sign_at = locked_at if worker is None else worker.last_heartbeat_at
        if last_sign_at is None:
            return LockOwner(worker_id=worker_id)
        comes_back_at = given_back_at(silent, last_sign_at, self.options)
        return LockOwner(
            worker_id=worker_id,
            is_registered=worker is not None,
            is_stale=comes_back_at <= self.now,
            last_sign_at=last_sign_at,
            given_back_at=comes_back_at,
        )


async def _look_at_fleet(executor: Executor, options: SweepOptions) -> _Fleet:
    workers = []
    if await worker_registry.has_registry(executor):
        workers = await worker_registry.list_active_workers(executor, options.sweep_threshold)
    return _Fleet(
        registered={worker.worker_id: worker for worker in workers}, now=await now(executor), options=options
    )


def _is_resilient(listed: ListedJob, options: SweepOptions) -> bool:
    return not set(listed.job.flags or ()).isdisjoint(options.resilient_flags)


def _task_worker(worker: ActiveWorker) -> TaskWorker:
    return TaskWorker(
        worker_id=worker.worker_id,
        phase=_phase_of(worker),
        forbidden_flags=_texts(worker, "forbidden_flags") or (),
        accepted_flags=_texts(worker, "accepted_flags"),
        allowed_flags=_texts(worker, "allowed_flags"),
    )


def _phase_of(worker: ActiveWorker) -> WorkerPhase | None:
    try:
        return WorkerPhase(_said(worker, "phase"))
    except ValueError:
        return None


def _texts(worker: ActiveWorker, name: str) -> tuple[str, ...] | None:
    said = _said(worker, name)
    return tuple(text for text in said if isinstance(text, str)) if isinstance(said, list) else None


def _said(worker: ActiveWorker, name: str) -> Any:
    """Return a field of the metadata of a worker: any JSON value, written by any program."""
    return worker.metadata.get(name) if isinstance(worker.metadata, dict) else None


# --- jobs that come before it -------------------------------------------------------------------

_AHEAD = """
    select count(*) filter (where entries.run_at <= now()) as jobs,
      count(*) > $2::bigint{or partial} as is_partial,
      (
        array_agg(entries.id order by entries.priority, entries.run_at, entries.id)
          filter (where entries.run_at <= now())
      )[1] as first_id
    from {schema}._private_jobs as ours
    cross join lateral (
      select others.id, others.priority, others.run_at
      from {jobs} as others
      where others.is_available = true
        and {is alike}
        and (others.priority, others.run_at, others.id) < (ours.priority, ours.run_at, ours.id)
      order by others.priority, others.run_at, others.id
      limit $2::bigint + 1
    ) as entries
    where ours.id = $1::bigint
"""
_NEWEST = """
    with newest as materialized (
      select jobs.id, jobs.task_id, jobs.job_queue_id, jobs.priority, jobs.run_at, jobs.is_available
      from {schema}._private_jobs as jobs
      order by jobs.id desc
      limit $3::bigint
    )
"""


def _ahead(is_alike: str) -> Statement:
    text = _AHEAD.replace("{or partial}", "").replace("{jobs}", "{schema}._private_jobs")
    return Statement(text.replace("{is alike}", is_alike))


def _ahead_in_newest(is_alike: str) -> Statement:
    is_full = " or (select count(*) from newest) >= $3::bigint"
    text = _NEWEST + _AHEAD.replace("{or partial}", is_full).replace("{jobs}", "newest")
    return Statement(text.replace("{is alike}", is_alike))


_SAME_TASK = "others.job_queue_id is null and others.task_id = ours.task_id"
_SAME_QUEUE = "others.job_queue_id = ours.job_queue_id"

COUNT_AHEAD_OF_TASK = _ahead(_SAME_TASK)
COUNT_AHEAD_IN_QUEUE = _ahead(_SAME_QUEUE)
# $1 job id, $2 how many that come before it are looked at: those that run first

COUNT_AHEAD_OF_TASK_IN_NEWEST = _ahead_in_newest(_SAME_TASK)
COUNT_AHEAD_IN_QUEUE_IN_NEWEST = _ahead_in_newest(_SAME_QUEUE)
# $1 and $2 as above, $3 among how many jobs: where there is no index


@attrs.frozen
class _Kind:
    """A group of jobs that run in one order, and the index that has them in it."""

    index: str
    count: Statement
    count_in_newest: Statement


_OF_TASK = _Kind(TASK_INDEX, COUNT_AHEAD_OF_TASK, COUNT_AHEAD_OF_TASK_IN_NEWEST)
_IN_QUEUE = _Kind(QUEUE_INDEX, COUNT_AHEAD_IN_QUEUE, COUNT_AHEAD_IN_QUEUE_IN_NEWEST)


async def _count_ahead(
    executor: Executor, kind: _Kind, job_id: int, limits: _Limits
) -> tuple[Count, int | None]:
    """Return how many due jobs come before one, and the first of them."""
    if kind.index in limits.indexes:
        [row] = await executor.fetch(kind.count, job_id, limits.cap)
    else:
        [row] = await executor.fetch(kind.count_in_newest, job_id, limits.cap, limits.window)
    return Count(value=min(row["jobs"], limits.cap), is_estimate=row["is_partial"]), row["first_id"]


# --- its queue ----------------------------------------------------------------------------------

GET_QUEUE = Statement("""
    select queues.id, queues.queue_name, date_part('epoch', queues.locked_at) as locked_at, queues.locked_by
    from {schema}._private_jobs as jobs
    join {schema}._private_job_queues as queues on queues.id = jobs.job_queue_id
    where jobs.id = $1::bigint
""")  # $1 job id

FIND_RUNNING = Statement("""
    select near.id
    from (
      (
        select jobs.id, jobs.job_queue_id, jobs.locked_at
        from {schema}._private_jobs as jobs
        where jobs.id <= $1::bigint
        order by jobs.id desc
        limit $3::bigint / 2
      )
      union all
      (
        select jobs.id, jobs.job_queue_id, jobs.locked_at
        from {schema}._private_jobs as jobs
        where jobs.id > $1::bigint
        order by jobs.id
        limit $3::bigint / 2
      )
    ) as near
    where near.job_queue_id = $2::integer
      and near.locked_at is not null
    order by near.locked_at desc, near.id
    limit 1
""")
# $1 job id, $2 queue id, $3 among how many jobs. No index has locked jobs; those of a queue run about in the
# order in which they were added.


async def _look_at_queue(
    executor: Executor, listed: ListedJob, fleet_: _Fleet, limits: _Limits
) -> JobQueueFacts | None:
    row = await executor.fetch_row(GET_QUEUE, listed.job.id)
    if row is None:
        return None
    ahead, first_id = await _count_ahead(executor, _IN_QUEUE, listed.job.id, limits)
    running_id = None
    if row["locked_at"] is not None:
        running_id = await executor.fetch_value(FIND_RUNNING, listed.job.id, row["id"], limits.window)
    locked_at = time_of(row["locked_at"])
    return JobQueueFacts(
        queue_name=row["queue_name"],
        locked_at=locked_at,
        owner=fleet_.owner(row["locked_by"], locked_at),
        running_id=running_id,
        ahead=ahead,
        first_ahead_id=first_id,
    )
