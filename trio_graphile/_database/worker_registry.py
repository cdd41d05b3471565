"""The registry of workers: how a worker keeps its locks fresh, shows that it lives, and sees the others.

The table `_private_workers` is shared with the Rust worker, and so are the rules for workers of its kind.
Workers of Node do not register: only their locks show that they exist.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.halves import write_most
from trio_graphile._database.held_rows import OURS, fences
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.instants import time_of
from trio_graphile._model.jobs import Job
from trio_graphile._model.json import decode_if_readable, encode
from trio_graphile._model.recovery import ActiveWorker

logger = logging.getLogger("trio_graphile.database")

# --- the leases of one worker -------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Renewal:
    """The state of the jobs that a worker holds, as the database knows it."""

    lost: frozenset[int]
    """Jobs that are no longer ours: gone, another's, or claimed anew."""
    detached: frozenset[int]
    """Jobs that are ours to end, but were replaced or removed through their key."""


RENEW = Statement(
    """
    with ours as (
      select jobs.id, jobs.key is null and jobs.id = any($4::bigint[]) as is_detached
      from {schema}._private_jobs as jobs
      where {ours}
    ),
    free as (
      select jobs.id
      from {schema}._private_jobs as jobs
      where jobs.id = any(array(select ours.id from ours))
        and jobs.locked_by = $1::text
      for no key update skip locked
    ),
    renewed as (
      update {schema}._private_jobs as jobs
      set locked_at = now(),
        updated_at = case
          when jobs.key is null and jobs.id = any($4::bigint[])
          then now()
          else jobs.updated_at
        end
      where jobs.id = any(array(select free.id from free))
    ),
    free_queues as (
      select queues.id
      from {schema}._private_job_queues as queues
      where $5::boolean
        and queues.locked_by = $1::text
      for no key update skip locked
    ),
    renewed_queues as (
      update {schema}._private_job_queues as queues
      set locked_at = now()
      where queues.id = any(array(select free_queues.id from free_queues))
    )
    select id, is_detached
    from ours
""".replace("{ours}", OURS)
)
# $1 to $4 what we hold, $5 whether our queues are renewed, too.
# Waits for no lock: a transaction that has a row locked now completes the job, replaces it or takes it away,
# and the next renewal will see that. Until then the job counts as ours.


_WITH_QUEUES, _WITHOUT_QUEUES = True, False  # what $5 can be

FIND_OURS = Statement(
    """
    select jobs.id, jobs.key is null and jobs.id = any($4::bigint[]) as is_detached
    from {schema}._private_jobs as jobs
    where {ours}
""".replace("{ours}", OURS)
)  # $1 to $4 as above


async def renew(executor: Executor, worker_id: str, held: Sequence[Job]) -> Renewal:
    """Renew the locks of all jobs and queues that we hold."""
    try:
        rows = await executor.fetch(RENEW, worker_id, *fences(held), _WITH_QUEUES)
    except StatementFailed as error:
        if error.transient:
            raise
        rows = await executor.fetch(FIND_OURS, worker_id, *fences(held))
        await _renew_apart(executor, worker_id, held)
    return Renewal(
        lost=frozenset(job.id for job in held) - frozenset(row["id"] for row in rows),
        detached=frozenset(row["id"] for row in rows if row["is_detached"]),
    )


async def _renew_apart(executor: Executor, worker_id: str, held: Sequence[Job]) -> None:
    """Renew the rows that allow it. The others are still ours, as our heartbeat shows to other workers."""

    async def attempt(part: Sequence[Job]) -> list[Row]:
        return await executor.fetch(RENEW, worker_id, *fences(part), _WITHOUT_QUEUES)

    await write_most(attempt, held, what="renewing the locks of jobs", name=lambda job: job.id)
    try:
        await executor.fetch(RENEW, worker_id, *fences([]), _WITH_QUEUES)
    except StatementFailed as error:
        if error.transient:
            raise
        logger.error("the locks of queues cannot be renewed: %s", error)  # noqa: TRY400  # no place of ours


# --- the registry of workers --------------------------------------------------------------------

HAS_REGISTRY = Statement("""
    select to_regclass($trio_graphile${schema}._private_workers$trio_graphile$) is not null
      and to_regprocedure($trio_graphile${schema}.worker_heartbeat(text, json)$trio_graphile$) is not null
      and to_regprocedure($trio_graphile${schema}.worker_deregister(text)$trio_graphile$) is not null
""")


async def has_registry(executor: Executor) -> bool:
    """Whether workers can be registered; not in a schema that Node installed and we have not completed."""
    return bool(await executor.fetch_value(HAS_REGISTRY))


HEARTBEAT = Statement("""
    with standing as (
      select jsonb_build_object('presence', workers.metadata -> 'presence') as presence
      from {schema}._private_workers as workers
      where $3::boolean
        and workers.id = $1::text
        and workers.metadata ? 'presence'
      for no key update
    )
    select {schema}.worker_heartbeat(
      $1::text,
      coalesce(
        (select $2::text::jsonb || standing.presence from standing)::json,
        $2::text::json
      )
    )
""")  # $1 id, $2 metadata, $3 whether the lock stays registered that stands for the worker


async def heartbeat(
    executor: Executor, worker_id: str, metadata: object = None, *, keeps_presence: bool = False
) -> StatementFailed | None:
    """Record that a worker lives, and register it if needed.

    `metadata` is what the worker reports about itself, any JSON value. None keeps the old metadata; so does
    metadata that the server refuses, which is returned: the heartbeat is recorded nevertheless.
    """
    try:
        said = None if metadata is None else encode(metadata)
        await executor.execute(HEARTBEAT, worker_id, said, keeps_presence)
    except StatementFailed as error:
        if error.transient or metadata is None:
            raise
        await executor.execute(HEARTBEAT, worker_id, None, keeps_presence)
        return error
    return None


DEREGISTER = Statement("select {schema}.worker_deregister($1::text)")  # $1 worker id


async def deregister(executor: Executor, worker_id: str) -> None:
    """Delete the registration of a worker, if there is one."""
    await executor.execute(DEREGISTER, worker_id)


COUNT_WORKERS = Statement("""
    select count(*)
    from {schema}._private_workers
""")


async def count_workers(executor: Executor) -> int:
    """Return how many workers are registered; 0 in a schema without a registry."""
    return int(await executor.fetch_value(COUNT_WORKERS)) if await has_registry(executor) else 0


LIST_ACTIVE_WORKERS = Statement("""
    select workers.id as worker_id, date_part('epoch', workers.last_heartbeat_at) as last_heartbeat_at,
      date_part('epoch', workers.started_at) as started_at,
      workers.metadata::text as metadata,
      workers.last_heartbeat_at < now() - make_interval(secs => $1::float8) as is_stale
    from {schema}._private_workers as workers
    order by workers.last_heartbeat_at desc, workers.id
""")  # $1 seconds


async def list_active_workers(executor: Executor, stale_threshold: float) -> list[ActiveWorker]:
    """Return all registered workers, the one with the latest heartbeat first."""
    return [
        ActiveWorker(
            worker_id=row["worker_id"],
            last_heartbeat_at=time_of(row["last_heartbeat_at"]),
            started_at=time_of(row["started_at"]),
            metadata=None if row["metadata"] is None else decode_if_readable(row["metadata"]),
            is_stale=row["is_stale"],
        )
        for row in await executor.fetch(LIST_ACTIVE_WORKERS, stale_threshold)
    ]


ADVERTISED_TASKS = Statement("""
    select distinct tasks.identifier
    from {schema}._private_workers as workers
    cross join lateral jsonb_array_elements_text(
      case
        when jsonb_typeof(workers.metadata -> 'tasks') = 'array' then workers.metadata -> 'tasks'
        else '[]'::jsonb
      end
    ) as tasks(identifier)
    where workers.last_heartbeat_at >= now() - make_interval(secs => $1::float8)
      and tasks.identifier is not null
""")  # $1 seconds


async def advertised_tasks(executor: Executor, stale_threshold: float) -> list[str]:
    """Return the tasks that workers advertise, except stale workers."""
    return [row["identifier"] for row in await executor.fetch(ADVERTISED_TASKS, stale_threshold)]
