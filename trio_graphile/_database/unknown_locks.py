"""What is locked by a worker that it does not know of: found, and given back.

The answer to a claim may have been lost with its session, say. Nothing indexes locks, so to find them reads
the whole table of jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeAlias

import attrs

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.halves import write_most
from trio_graphile._database.held_rows import ANNOUNCED, OURS, QUEUES_ANNOUNCED, RETIRED, fences
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job

logger = logging.getLogger("trio_graphile.worker")


Lock: TypeAlias = tuple[int, datetime]
"""The id of a job or a queue, and when it was locked."""


@attrs.frozen
class UnknownLocks:
    """Jobs and queues that are locked by a worker which seems to know nothing of them."""

    jobs: Sequence[Lock]
    queues: Sequence[Lock]

    def __bool__(self) -> bool:
        return bool(self.jobs or self.queues)


FIND_UNKNOWN_JOBS = Statement(
    """
    select jobs.id, jobs.locked_at
    from {schema}._private_jobs as jobs
    where jobs.locked_by = $1::text
      and jobs.locked_at is not null
      and not ({ours})
    order by jobs.id
""".replace("{ours}", OURS)
)  # $1 to $4 what we hold

FIND_UNKNOWN_AMONG_JOBS = Statement(
    """
    select jobs.id, jobs.locked_at
    from {schema}._private_jobs as jobs
    where jobs.id = any($5::bigint[])
      and jobs.locked_by = $1::text
      and jobs.locked_at is not null
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
        and (
          not $4::boolean
          or (jobs.id, jobs.locked_at) in (
            select unknown.id, unknown.locked_at
            from unnest($2::bigint[], $3::timestamptz[]) as unknown(id, locked_at)
          )
        )
      returning jobs.id, jobs.job_queue_id, jobs.run_at, jobs.attempts, jobs.max_attempts
    )
    select returned.id, queues.id as queue_id, queues.locked_at as queue_locked_at, {announced}
    from returned
    left join {schema}._private_job_queues as queues
      on queues.id = returned.job_queue_id
      and queues.locked_by = $1::text
""".replace("{retired}", RETIRED).replace("{announced}", ANNOUNCED)
)  # $1 worker id, $2 job ids, $3 when each was locked, $4 whether that has to be so still

FIND_UNKNOWN_QUEUES = Statement("""
    select queues.id, queues.locked_at
    from {schema}._private_job_queues as queues
    where queues.locked_by = $1::text
      and queues.locked_at is not null
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
        and (
          not $4::boolean
          or (queues.id, queues.locked_at) in (
            select unknown.id, unknown.locked_at
            from unnest($2::integer[], $3::timestamptz[]) as unknown(id, locked_at)
          )
        )
        and not exists (
          select from {schema}._private_jobs as jobs
          where jobs.id = any($5::bigint[])
            and jobs.job_queue_id = queues.id
            and jobs.locked_by = $1::text
        )
      returning queues.id
    )
    select freed.id, {announced}
    from freed
""".replace("{announced}", QUEUES_ANNOUNCED)
)  # $1 worker id, $2 queue ids, $3 and $4 as above, $5 the ids of the jobs that we hold


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
    """Leave out the jobs that are not locked by us any more, or that a claim brought; keep the queues.

    No claim of ours may run meanwhile.
    """
    ids = [id_ for id_, _ in found.jobs]
    rows = await executor.fetch(FIND_UNKNOWN_AMONG_JOBS, worker_id, *fences(held), ids)
    return UnknownLocks(_locks(rows), found.queues)


async def return_unknown(
    executor: Executor, worker_id: str, held: Sequence[Job], unknown: UnknownLocks
) -> None:
    """Give back what is locked by us and not in `held`, unless it was locked anew, or its lock renewed.

    No claim of ours may run meanwhile. But if this is given up with its session, the server may carry it out
    later. Ended in between, it leaves queues locked whose jobs are given back: `reconcile` finds them.
    """
    returned = await _return_jobs(executor, worker_id, unknown.jobs, is_fenced=True)
    queues = {(row["queue_id"], row["queue_locked_at"]) for row in returned if row["queue_id"] is not None}
    await _free_queues(executor, worker_id, queues.union(unknown.queues), held, is_fenced=True)


async def reconcile(executor: Executor, worker_id: str, held: Sequence[Job]) -> set[int]:
    """Give back the jobs that are locked by us but not in `held`, and free their queues; return their ids.

    No claim of ours may run meanwhile. Renewals may, and what is left of a `return_unknown` given up.
    """
    jobs = await _find_jobs(executor, worker_id, held)
    returned = await _return_jobs(executor, worker_id, jobs, is_fenced=False)
    # Only now: whoever gave back the jobs of a queue may not come to free it.
    queues = await _find_queues(executor, worker_id)
    await _free_queues(executor, worker_id, queues, held, is_fenced=False)
    return {row["id"] for row in returned}


async def _find_jobs(executor: Executor, worker_id: str, held: Sequence[Job]) -> list[Lock]:
    return _locks(await executor.fetch(FIND_UNKNOWN_JOBS, worker_id, *fences(held)))


async def _find_queues(executor: Executor, worker_id: str) -> list[Lock]:
    return _locks(await executor.fetch(FIND_UNKNOWN_QUEUES, worker_id))


def _locks(rows: Iterable[Row]) -> list[Lock]:
    return [(row["id"], row["locked_at"]) for row in rows]


async def _return_jobs(
    executor: Executor, worker_id: str, jobs: Sequence[Lock], *, is_fenced: bool
) -> list[Row]:
    async def give_back(part: Sequence[Lock]) -> list[Row]:
        return await executor.fetch(RETURN_UNKNOWN_JOBS, worker_id, *_columns(part), is_fenced)

    returned = await write_most(give_back, jobs, what="giving back unknown jobs", name=itemgetter(0))
    if returned:
        ids = sorted(row["id"] for row in returned)
        logger.warning("gave back jobs of a claim whose answer was lost: %s", ids)
    return returned


async def _free_queues(
    executor: Executor, worker_id: str, queues: Iterable[Lock], held: Sequence[Job], *, is_fenced: bool
) -> None:
    held_ids = [job.id for job in held]

    async def free(part: Sequence[Lock]) -> list[Row]:
        return await executor.fetch(FREE_UNKNOWN_QUEUES, worker_id, *_columns(part), is_fenced, held_ids)

    await write_most(free, sorted(queues), what="freeing unknown queues", name=itemgetter(0))


def _columns(locks: Sequence[Lock]) -> tuple[list[int], list[datetime]]:
    return [id_ for id_, _ in locks], [locked_at for _, locked_at in locks]
