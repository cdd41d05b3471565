"""What is locked by a worker that it does not know of: found, and given back.

The answer to a claim may have been lost with its session, say. Nothing indexes locks, so to find them reads
the whole table of jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import attrs

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.halves import write_most
from trio_graphile._database.held_rows import ANNOUNCED, OURS, QUEUES_ANNOUNCED, RETIRED, fences
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job

logger = logging.getLogger("trio_graphile.worker")


@attrs.frozen
class UnknownLocks:
    """Jobs and queues that are locked by a worker which seems to know nothing of them."""

    job_ids: Sequence[int]
    queue_ids: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.job_ids or self.queue_ids)


FIND_UNKNOWN_JOBS = Statement(
    """
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.locked_by = $1::text
      and not ({ours})
    order by jobs.id
""".replace("{ours}", OURS)
)  # $1 to $4 what we hold

FIND_UNKNOWN_AMONG_JOBS = Statement(
    """
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.id = any($5::bigint[])
      and jobs.locked_by = $1::text
      and not ({ours})
    order by jobs.id
""".replace("{ours}", OURS)
)  # $1 to $4 what we hold, $5 job ids

RETURN_UNKNOWN_JOBS = Statement(
    """
    with returned as (
      update {schema}._private_jobs as jobs
      set attempts = case
          when {retired}
          then jobs.attempts
          else greatest(jobs.attempts - 1, 0)
        end,
        locked_by = null,
        locked_at = null
      where jobs.locked_by = $1::text
        and jobs.id = any($2::bigint[])
      returning jobs.id, jobs.job_queue_id, jobs.run_at, jobs.attempts, jobs.max_attempts
    )
    select returned.id, returned.job_queue_id, {announced}
    from returned
""".replace("{retired}", RETIRED).replace("{announced}", ANNOUNCED)
)  # $1 worker id, $2 job ids

FIND_UNKNOWN_QUEUES = Statement("""
    select queues.id
    from {schema}._private_job_queues as queues
    where queues.locked_by = $1::text
      and not exists (
        select from {schema}._private_jobs as jobs
        where jobs.job_queue_id = queues.id
          and jobs.locked_by = $1::text
      )
    order by queues.id
""")  # $1 worker id. Those of which no job is locked by us.

FREE_UNKNOWN_QUEUES = Statement(
    """
    with freed as (
      update {schema}._private_job_queues as queues
      set locked_by = null, locked_at = null
      where queues.locked_by = $1::text
        and queues.id = any($2::integer[])
        and not exists (
          select from {schema}._private_jobs as jobs
          where jobs.id = any($3::bigint[])
            and jobs.job_queue_id = queues.id
            and jobs.locked_by = $1::text
        )
      returning queues.id
    )
    select freed.id, {announced}
    from freed
""".replace("{announced}", QUEUES_ANNOUNCED)
)  # $1 worker id, $2 queue ids, $3 the ids of the jobs that we hold


async def find_unknown(executor: Executor, worker_id: str, held: Sequence[Job]) -> UnknownLocks:
    """Find jobs that are locked by us but not in `held`, and queues of which no job is locked by us.

    A claim of ours may run meanwhile: what it brings is found, too.
    """
    jobs = await _find_jobs(executor, worker_id, held)
    queues = await _find_queues(executor, worker_id)
    return UnknownLocks(jobs, queues)


async def still_unknown(
    executor: Executor, worker_id: str, held: Sequence[Job], found: UnknownLocks
) -> UnknownLocks:
    """Leave out the jobs that are not locked by us any more, or that a claim brought.

    No claim of ours may run meanwhile.
    """
    rows = await executor.fetch(FIND_UNKNOWN_AMONG_JOBS, worker_id, *fences(held), found.job_ids)
    return UnknownLocks([row["id"] for row in rows], found.queue_ids)


async def return_unknown(
    executor: Executor, worker_id: str, held: Sequence[Job], unknown: UnknownLocks
) -> None:
    """Give back what is locked by us and not in `held`. No claim of ours may run meanwhile.

    Ended in between, it leaves queues locked whose jobs are given back: `reconcile` finds them.
    """
    returned = await _return_jobs(executor, worker_id, unknown.job_ids)
    queue_ids = {row["job_queue_id"] for row in returned} - {None}
    await _free_queues(executor, worker_id, held, queue_ids.union(unknown.queue_ids))


async def reconcile(executor: Executor, worker_id: str, held: Sequence[Job]) -> set[int]:
    """Give back the jobs that are locked by us but not in `held`, and free their queues; return their ids.

    No claim of ours may run meanwhile. What is left of a `return_unknown` that was given up may.
    """
    returned = await _return_jobs(executor, worker_id, await _find_jobs(executor, worker_id, held))
    # Only now: whoever gave back the jobs of a queue may not come to free it.
    await _free_queues(executor, worker_id, held, await _find_queues(executor, worker_id))
    return {row["id"] for row in returned}


async def _find_jobs(executor: Executor, worker_id: str, held: Sequence[Job]) -> list[int]:
    return [row["id"] for row in await executor.fetch(FIND_UNKNOWN_JOBS, worker_id, *fences(held))]


async def _find_queues(executor: Executor, worker_id: str) -> list[int]:
    return [row["id"] for row in await executor.fetch(FIND_UNKNOWN_QUEUES, worker_id)]


async def _return_jobs(executor: Executor, worker_id: str, job_ids: Sequence[int]) -> list[Row]:
    async def give_back(ids: Sequence[int]) -> list[Row]:
        return await executor.fetch(RETURN_UNKNOWN_JOBS, worker_id, ids)

    returned = await write_most(give_back, job_ids, what="giving back unknown jobs")
    if returned:
        ids = sorted(row["id"] for row in returned)
        logger.warning("gave back jobs of a claim whose answer was lost: %s", ids)
    return returned


async def _free_queues(
    executor: Executor, worker_id: str, held: Sequence[Job], queue_ids: Iterable[int]
) -> None:
    held_ids = [job.id for job in held]

    async def free(ids: Sequence[int]) -> list[Row]:
        return await executor.fetch(FREE_UNKNOWN_QUEUES, worker_id, ids, held_ids)

    await write_most(free, sorted(queue_ids), what="freeing unknown queues")
