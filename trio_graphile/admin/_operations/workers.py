"""Workers, and the holders of locks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs

from trio_graphile._client_reading import STALE_THRESHOLD
from trio_graphile._database import worker_registry
from trio_graphile._database.search.find import find_jobs
from trio_graphile._model.inspection import JobState
from trio_graphile._model.jobs import BIGINT
from trio_graphile._model.json import encode
from trio_graphile._model.listing import FoundJob, FoundJobs, JobOrder, JobSearch
from trio_graphile._model.recovery import ActiveWorker
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import ActiveWorkerAnswer, HolderAnswer, WorkersAnswer

_MOST_LOCKED_JOBS = 500


async def list_workers(context: Context) -> WorkersAnswer:
    """Return the registered workers, and the holders of locked jobs among those that were read."""
    registered = await list_registered(context)
    locked = await find_locked(context, registered)
    return WorkersAnswer(
        workers=_holders(locked.jobs),
        active_workers=[_active(worker) for worker in registered],
        is_complete=locked.next is None,
    )


def _holders(locked: Iterable[FoundJob]) -> list[HolderAnswer]:
    jobs: Counter[str] = Counter()
    queues: Counter[str] = Counter()
    for found in locked:
        holder = found.listed.job.locked_by or ""
        jobs[holder] += 1
        queues[holder] += found.listed.job.queue_name is not None  # a queue is locked while its job is
    return [
        HolderAnswer(worker_id=holder, locked_jobs=count, locked_queues=queues[holder])
        for holder, count in sorted(jobs.items())
    ]


async def find_locked(context: Context, registered: Iterable[ActiveWorker]) -> FoundJobs:
    """Return locked jobs: those that workers report, and the oldest and the newest of the others.

    No index has the locked jobs. If there is no `next`, these are all.
    """
    told = [id_ for worker in registered for id_ in running_ids(worker)][:_MOST_LOCKED_JOBS]
    locked = JobSearch(states=(JobState.LOCKED,), limit=_MOST_LOCKED_JOBS)
    searches = [attrs.evolve(locked, order=order) for order in (JobOrder.OLDEST, JobOrder.NEWEST)]
    searches += [attrs.evolve(locked, ids=tuple(told))] if told else []
    found: dict[int, FoundJob] = {}
    for search in searches:
        page = await find_jobs(context.database, search, None)
        found |= {one.listed.job.id: one for one in page.jobs}
        if page.next is None and not search.ids:
            return FoundJobs(jobs=tuple(found.values()))
    return FoundJobs(jobs=tuple(found.values()), next="")


def running_ids(worker: ActiveWorker) -> list[int]:
    """Return the jobs that a worker reports to run."""
    said = worker.metadata
    for name in ("statistics", "running"):
        said = said.get(name) if isinstance(said, dict) else None
    ids = [one.get("id") for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    return [id_ for id_ in ids if type(id_) is int and id_ in BIGINT]


async def list_registered(context: Context) -> list[ActiveWorker]:
    """Return the workers that send heartbeats, including stale ones."""
    if not await worker_registry.has_registry(context.database):
        return []
    return await worker_registry.list_active_workers(context.database, STALE_THRESHOLD)


def _active(worker: ActiveWorker) -> ActiveWorkerAnswer:
    try:
        encode(worker.metadata)
    except ValueError:  # a number that no double holds, which other programs may write
        worker = attrs.evolve(worker, metadata=None)
    return ActiveWorkerAnswer(**attrs.asdict(worker, recurse=False))
