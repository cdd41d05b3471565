"""The workers of a queue among themselves: keeping locks fresh, showing life, taking jobs back from the dead.

Locks are compared with the database's clock alone. `_private_workers` is shared with the Rust worker, the
rules for its own kind included; workers of Node are known by their locks only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from trio_graphile._database.connection import Connection, Executor, Isolation
from trio_graphile._database.queue import OURS, fences
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job
from trio_graphile._model.json import decode, encode
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import ActiveWorker, ResetReport, SilentWorker, SweepReport, dead_workers


class Transactor(Protocol):
    """What opens transactions: a `Connection`, or a `Database` that lends one."""

    def transaction(self, isolation: Isolation | None = None) -> AbstractAsyncContextManager[Connection]: ...


# --- the leases of one worker -------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Renewal:
    """What has become of the jobs that a worker holds."""

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
      where queues.locked_by = $1::text
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
# Waits for nobody: who has a row locked at this moment completes it, replaces it or takes it away, and the
# next renewal will see. Until then it counts as ours.
# A detached job keeps `updated_at` at no less than `locked_at`: that is how others know it for one.


async def renew(executor: Executor, worker_id: str, held: Sequence[Job]) -> Renewal:
    """Make the locks of all jobs and queues that we hold as fresh as if just taken."""
    rows = await executor.fetch(RENEW, worker_id, *fences(held))
    return Renewal(
        lost=frozenset(job.id for job in held) - frozenset(row["id"] for row in rows),
        detached=frozenset(row["id"] for row in rows if row["is_detached"]),
    )


# --- the registry of workers --------------------------------------------------------------------

HAS_REGISTRY = Statement("""
    select to_regclass($trio_graphile${schema}._private_workers$trio_graphile$) is not null
      and to_regprocedure($trio_graphile${schema}.worker_heartbeat(text, json)$trio_graphile$) is not null
      and to_regprocedure($trio_graphile${schema}.worker_deregister(text)$trio_graphile$) is not null
""")


async def has_registry(executor: Executor) -> bool:
    """Whether workers can be registered: not in a schema of Node's that is too new for us to complete."""
    return bool(await executor.fetch_value(HAS_REGISTRY))


HEARTBEAT = Statement("select {schema}.worker_heartbeat($1::text, $2::text::json)")  # $1 id, $2 metadata


async def heartbeat(executor: Executor, worker_id: str, metadata: object = None) -> None:
    """Say that a worker lives, registering it if need be.

    `metadata` is what it says of itself, any JSON value; None leaves what it said before.
    """
    await executor.execute(HEARTBEAT, worker_id, None if metadata is None else encode(metadata))


DEREGISTER = Statement("select {schema}.worker_deregister($1::text)")  # $1 worker id


async def deregister(executor: Executor, worker_id: str) -> None:
    """Forget a worker; one that is unknown is none of its concern."""
    await executor.execute(DEREGISTER, worker_id)


LIST_ACTIVE_WORKERS = Statement("""
    select workers.id as worker_id, workers.last_heartbeat_at, workers.started_at,
      workers.metadata::text as metadata,
      workers.last_heartbeat_at < now() - make_interval(secs => $1::float8) as is_stale
    from {schema}._private_workers as workers
    order by workers.last_heartbeat_at desc, workers.id
""")  # $1 seconds


async def list_active_workers(executor: Executor, stale_threshold: float) -> list[ActiveWorker]:
    """Return all registered workers, that with the latest heartbeat first."""
    return [
        ActiveWorker(**fields | {"metadata": None if metadata is None else decode(metadata)})
        for fields in map(dict, await executor.fetch(LIST_ACTIVE_WORKERS, stale_threshold))
        for metadata in [fields["metadata"]]
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
    """Return the tasks that workers which are not stale say they have."""
    return [row["identifier"] for row in await executor.fetch(ADVERTISED_TASKS, stale_threshold)]


# --- taking jobs back ---------------------------------------------------------------------------

TRY_LOCK_SWEEP = Statement("""
    select pg_try_advisory_xact_lock(
        hashtextextended($trio_graphile$trio_graphile sweep {schema}$trio_graphile$, 0)
      )
      and pg_try_advisory_xact_lock_shared(1196905043, 1398228304)
""")
# The second is the lock of Rust's sweepers, one for all schemas. Shared: theirs and ours keep each other out,
# ours of different schemas do not.

LOCK_SILENT_WORKERS = Statement("""
    with silent as (
      select workers.id as worker_id,
        extract(epoch from now() - workers.last_heartbeat_at)::float8 as silent_for
      from {schema}._private_workers as workers
      where workers.last_heartbeat_at < now() - make_interval(secs => $1::float8)
      for update skip locked
    )
    select silent.worker_id, true as is_registered, silent.silent_for,
      exists (
        select from {schema}._private_jobs as jobs
        where jobs.locked_by = silent.worker_id
          and jobs.flags ?| $2::text[]
      ) as holds_resilient
    from silent
    order by silent.worker_id
""")
# $1 seconds, $2 resilient flags. The rows stay locked, so that no heartbeat comes between this look and what
# follows from it; one that is coming just now has its row locked and is no silence.

FIND_ORPHANS = Statement("""
    with locks as (
      select jobs.locked_by as worker_id, jobs.locked_at
      from {schema}._private_jobs as jobs
      where jobs.locked_at is not null
      union all
      select queues.locked_by, queues.locked_at
      from {schema}._private_job_queues as queues
      where queues.locked_at is not null
    )
    select locks.worker_id, false as is_registered,
      extract(epoch from now() - max(locks.locked_at))::float8 as silent_for
    from locks
    where locks.worker_id is not null
      and not exists (
        select from {schema}._private_workers as workers
        where workers.id = locks.worker_id
      )
    group by locks.worker_id
    having max(locks.locked_at) < now() - make_interval(secs => $1::float8)
    order by locks.worker_id
""")  # $1 seconds. The newest lock decides: whoever still takes or renews locks lives.

LOCK_JOBS_OF_DEAD = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.locked_by = any($1::text[])
    order by jobs.id
    for no key update skip locked
""")  # $1 worker ids. What somebody has locked at this moment is left for the next sweep.

RECOVER_JOBS = Statement("""
    with recovered as (
      update {schema}._private_jobs as jobs
      set attempts = case
          when jobs.key is null
            and jobs.attempts >= jobs.max_attempts
            and jobs.updated_at >= jobs.locked_at
          then jobs.attempts
          else greatest(jobs.attempts - 1, 0)
        end,
        run_at = greatest(jobs.run_at, now() + make_interval(secs => $2::float8)),
        last_error = 'Job recovered after worker interruption',
        locked_by = null,
        locked_at = null,
        updated_at = now()
      where jobs.id = any($1::bigint[])
      returning jobs.id
    )
    select count(*)
    from recovered
""")  # $1 job ids, $2 seconds. A detached job gets no attempt back: it would run again.

FREE_QUEUES_OF_DEAD = Statement("""
    with free as (
      select queues.id
      from {schema}._private_job_queues as queues
      where queues.locked_by = any($1::text[])
      for no key update skip locked
    )
    update {schema}._private_job_queues as queues
    set locked_by = null, locked_at = null
    from free
    where queues.id = free.id
""")  # $1 worker ids. Queues that are locked without a job, too.

FORGET_DEAD = Statement("""
    delete from {schema}._private_workers as workers
    where workers.id = any($1::text[])
      and not exists (
        select from {schema}._private_jobs as jobs
        where jobs.locked_by = workers.id
      )
      and not exists (
        select from {schema}._private_job_queues as queues
        where queues.locked_by = workers.id
      )
""")  # $1 worker ids. One whose locks could not all be taken is found by the next sweep.


async def sweep(database: Transactor, options: SweepOptions, *, dry_run: bool = False) -> SweepReport:
    """Find the workers that are dead and give their jobs back, all in one transaction.

    Does nothing while another sweep of this schema is under way. A dry run only finds.
    """
    async with database.transaction("read_committed") as connection:
        if not await connection.fetch_value(TRY_LOCK_SWEEP):
            return SweepReport(dry_run=dry_run)
        dead = dead_workers(await _silent_workers(connection, options), options)
        if dry_run or not dead:
            return SweepReport(worker_ids=dead, dry_run=dry_run)
        job_ids = [row["id"] for row in await connection.fetch(LOCK_JOBS_OF_DEAD, dead)]
        recovered = await connection.fetch_value(RECOVER_JOBS, job_ids, options.recovery_delay)
        await connection.execute(FREE_QUEUES_OF_DEAD, dead)
        await connection.execute(FORGET_DEAD, dead)
    return SweepReport(worker_ids=dead, recovered_jobs=int(recovered))


async def _silent_workers(connection: Connection, options: SweepOptions) -> list[SilentWorker]:
    threshold, flags = options.sweep_threshold, options.resilient_flags
    registered = await connection.fetch(LOCK_SILENT_WORKERS, threshold, flags)
    orphans = await connection.fetch(FIND_ORPHANS, threshold)
    return [SilentWorker(**row) for row in (*registered, *orphans)]


RESET_STALE_LOCKS = Statement("""
    with stale_jobs as (
      select jobs.id
      from {schema}._private_jobs as jobs
      where jobs.locked_at < now() - interval '4 hours'
      for no key update skip locked
    ),
    freed_jobs as (
      update {schema}._private_jobs as jobs
      set locked_by = null, locked_at = null, run_at = greatest(jobs.run_at, now())
      from stale_jobs
      where jobs.id = stale_jobs.id
      returning jobs.id
    ),
    stale_queues as (
      select queues.id
      from {schema}._private_job_queues as queues
      where queues.locked_at < now() - interval '4 hours'
      for no key update skip locked
    ),
    freed_queues as (
      update {schema}._private_job_queues as queues
      set locked_by = null, locked_at = null
      from stale_queues
      where queues.id = stale_queues.id
      returning queues.id
    )
    select
      (select count(*) from freed_jobs) as jobs,
      (select count(*) from freed_queues) as queues
""")  # As Node does it: attempts, error and updated_at stay.


async def reset_stale_locks(executor: Executor) -> ResetReport:
    """Release what has been locked for over four hours, whoever locked it."""
    [row] = await executor.fetch(RESET_STALE_LOCKS)
    return ResetReport(**row)
