"""Sweeps: find workers that died, and take their jobs back.

Only the clock of the database counts for the age of locks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from trio_graphile._database import dead_jobs
from trio_graphile._database.brief_transaction import brief_transaction, one_core_transaction
from trio_graphile._database.connection import Connection, Transactor
from trio_graphile._database.dead_jobs import RecoveryDecision
from trio_graphile._database.halves import in_savepoints
from trio_graphile._database.presence_locks import LOCK_GONE_WORKERS, Gone, lock_gone
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import SilentWorker, SweepReport, dead_workers

LONGEST_SILENCE = 5.0
"""How long the server waits for the next statement of such a transaction, in seconds."""
TRY_LOCK_SWEEP = Statement("""
    select pg_try_advisory_xact_lock(
        hashtextextended($trio_graphile$trio_graphile sweep {schema}$trio_graphile$, 0)
      )
      and pg_try_advisory_xact_lock_shared(1196905043, 1398228304)
""")
# The second is the lock of Rust's sweepers, one for all schemas. We take it shared: our sweeps and theirs
# exclude each other, those of ours in different schemas do not.

LOCK_SILENT_WORKERS = Statement("""
    with silent as (
      select workers.id as worker_id,
        date_part('epoch', now()) - date_part('epoch', workers.last_heartbeat_at) as silent_for
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
# $1 seconds, $2 resilient flags. The rows stay locked, so that no heartbeat comes before we act on them. A
# row that a heartbeat has locked at this moment is skipped.

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
      date_part('epoch', now()) - date_part('epoch', max(locks.locked_at)) as silent_for
    from locks
    where locks.worker_id is not null
      and not exists (
        select from {schema}._private_workers as workers
        where workers.id = locks.worker_id
      )
    group by locks.worker_id
    having max(locks.locked_at) < now() - make_interval(secs => $1::float8)
    order by locks.worker_id
""")
# $1 seconds. The newest lock decides: whoever still takes or renews locks lives. Reads the whole table.


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
    returning workers.id
""")  # $1 worker ids. One whose locks could not all be taken is found by the next sweep.


@asynccontextmanager
async def sweep_transaction(database: Transactor) -> AsyncIterator[Connection]:
    """Run the body in a transaction of a sweep.

    If a sweeper is cut off or suspended inside it, no other worker can sweep until the server ends the
    transaction after five seconds, or, if statements are not prepared, after some minutes at worst.
    """
    async with brief_transaction(
        database, "read_committed", longest_silence=LONGEST_SILENCE, statements=_STATEMENTS
    ) as connection:
        yield connection


async def sweep(
    database: Transactor,
    options: SweepOptions,
    *,
    sweeper_id: str | None = None,
    dry_run: bool = False,
    decisions: Sequence[RecoveryDecision] = (),
    gone: Sequence[Gone] = (),
    orphans: bool = True,
) -> SweepReport:
    """Find the dead workers and give their jobs back, all in one transaction.

    Does nothing while another sweep of this schema runs. A dry run only finds them. `sweeper_id` is the
    worker that sweeps, if it is a worker. If `gone` names workers, the sweep is about them alone, and their
    jobs run again at once. `orphans` is whether to look for workers that only their locks show, too.
    """
    async with sweep_transaction(database) as connection:
        if not await connection.fetch_value(TRY_LOCK_SWEEP):
            return SweepReport(dry_run=dry_run)
        dead = await _find_dead(connection, options, sweeper_id, gone, orphans=orphans)
        if dry_run or not dead:
            return SweepReport(worker_ids=dead, dry_run=dry_run)
        recovered = await dead_jobs.give_back(
            connection, dead, 0.0 if gone else options.recovery_delay, decisions
        )
        await in_savepoints(
            connection, partial(connection.fetch, FORGET_DEAD), dead, what="forgetting workers"
        )
    return SweepReport(worker_ids=dead, recovered_jobs=len(recovered), job_ids=recovered)


async def has_orphans(database: Transactor, options: SweepOptions) -> bool:
    """Whether a worker is dead that only its locks show. Locks no row, and keeps no other sweep waiting."""
    async with one_core_transaction(database) as connection:
        rows = await connection.fetch(FIND_ORPHANS, options.sweep_threshold)
    return bool(dead_workers([SilentWorker(**row) for row in rows], options))


async def recover_dead_worker(database: Transactor, worker_id: str) -> int:
    """Give back all jobs of a worker whose process is known to have ended; return how many."""
    async with sweep_transaction(database) as connection:
        recovered = await dead_jobs.give_back(connection, [worker_id], 0.0, ())
        await connection.execute(FORGET_DEAD, [worker_id])
    return len(recovered)


async def jobs_of_dead(
    database: Transactor,
    options: SweepOptions,
    *,
    sweeper_id: str | None = None,
    gone: Sequence[Gone] = (),
    orphans: bool = True,
) -> list[Job]:
    """Return the jobs that a sweep would give back now, as far as they can be read. Keeps no locks."""
    async with sweep_transaction(database) as connection:
        dead = await _find_dead(connection, options, sweeper_id, gone, orphans=orphans)
        return await dead_jobs.read(connection, dead) if dead else []


async def _find_dead(
    connection: Connection,
    options: SweepOptions,
    sweeper_id: str | None,
    gone: Sequence[Gone],
    *,
    orphans: bool,
) -> tuple[str, ...]:
    if gone:
        return await lock_gone(connection, gone)
    threshold, flags = options.sweep_threshold, options.resilient_flags
    rows = await connection.fetch(LOCK_SILENT_WORKERS, threshold, flags)
    if orphans:
        rows = [*rows, *await connection.fetch(FIND_ORPHANS, threshold)]
    return dead_workers([SilentWorker(**row) for row in rows], options, sweeper_id)


_STATEMENTS = (
    TRY_LOCK_SWEEP,
    LOCK_GONE_WORKERS,
    LOCK_SILENT_WORKERS,
    FIND_ORPHANS,
    *dead_jobs.STATEMENTS,
    FORGET_DEAD,
)
