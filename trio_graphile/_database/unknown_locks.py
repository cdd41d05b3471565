"""What is locked by a worker that it does not know of: found, and given back.

The answer to a claim may have been lost with its session, say. Nothing indexes locks, so to find them reads
the whole table of jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs

from trio_graphile._database.connection import Executor
from trio_graphile._database.halves import write_most
from trio_graphile._database.held_rows import ANNOUNCED, OURS, QUEUES_ANNOUNCED, RETIRED, fences
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job

logger = logging.getLogger("trio_graphile.worker")


@attrs.frozen
class UnknownLocks:
    """Jobs and queues that are locked by a worker which seems to know nothing of them."""

    job_ids: list[int]
    queue_ids: list[int]


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
""")  # $1 worker id. Those of which no job is locked by us, once what we know nothing of was given back.

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
    jobs = await executor.fetch(FIND_UNKNOWN_JOBS, worker_id, *fences(held))
    queues = await executor.fetch(FIND_UNKNOWN_QUEUES, worker_id)
    return UnknownLocks([row["id"] for row in jobs], [row["id"] for row in queues])


async def return_unknown(
    executor: Executor, worker_id: str, held: Sequence[Job], found: UnknownLocks
) -> set[int]:
    """Give back what was found and is still not in `held`; return the ids of the jobs.

    No claim of ours may run meanwhile.
    """
    held_ids, queue_ids = [job.id for job in held], {*found.queue_ids}

    async def give_back(ids: Sequence[int]) -> list[int]:
        rows = await executor.fetch(RETURN_UNKNOWN_JOBS, worker_id, ids)
        queue_ids.update(row["job_queue_id"] for row in rows if row["job_queue_id"] is not None)
        return [row["id"] for row in rows]

    async def free(ids: Sequence[int]) -> list[int]:
        rows = await executor.fetch(FREE_UNKNOWN_QUEUES, worker_id, ids, held_ids)
        return [row["id"] for row in rows]

    jobs = await executor.fetch(FIND_UNKNOWN_AMONG_JOBS, worker_id, *fences(held), found.job_ids)
    returned = await write_most(give_back, [row["id"] for row in jobs], what="giving back unknown jobs")
    await write_most(free, sorted(queue_ids), what="freeing unknown queues")
    if returned:
        logger.warning("gave back jobs of a claim whose answer was lost: %s", sorted(returned))
    return set(returned)


async def reconcile(executor: Executor, worker_id: str, held: Sequence[Job]) -> set[int]:
    """Give back the jobs that are locked by us but not in `held`; return their ids.

    No claim of ours may run meanwhile.
    """
    found = await find_unknown(executor, worker_id, held)
    return await return_unknown(executor, worker_id, held, found)
