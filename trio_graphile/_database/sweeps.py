"""Sweeps: take jobs back from workers that died.

Only the clock of the database counts for the age of locks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import attrs

from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.connection import Connection, Row, Transactor
from trio_graphile._database.halves import in_savepoints
from trio_graphile._database.held_rows import RETIRED
from trio_graphile._database.presence_locks import LOCK_GONE_WORKERS, Gone, lock_gone
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import SilentWorker, SweepReport, dead_workers

LONGEST_SILENCE = 5.0
"""How long the server waits for the next statement of such a transaction, in seconds."""
MOST_INTERRUPTIONS = 3
"""From how many deaths of its workers in a row on a job counts as the cause, and its attempt as failed."""

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
""")  # $1 seconds. The newest lock decides: whoever still takes or renews locks lives.

LOCK_JOBS_OF_DEAD = Statement("""
    select jobs.id, jobs.attempts, jobs.locked_by
    from {schema}._private_jobs as jobs
    where jobs.locked_by = any($1::text[])
    order by jobs.id
    for no key update skip locked
""")  # $1 worker ids. What somebody has locked at this moment is left for the next sweep.

_INTERRUPTIONS = r"""coalesce(
          substring(
            jobs.last_error from '^Job recovered after worker interruption \((\d\d?\d?) in a row\)$'
          )::integer,
          (jobs.last_error = 'Job recovered after worker interruption')::integer,
          0
        )"""
# How often in a row the job was taken from a dead worker before. No column of Graphile's has room for it.

_KILLS = f"(decided.id is null and {_INTERRUPTIONS} >= {MOST_INTERRUPTIONS - 1})"

RECOVER_JOBS = Statement(
    """
    update {schema}._private_jobs as jobs
    set attempts = case
        when {retired}
        then jobs.attempts
        when decided.fails or {kills}
        then jobs.attempts
        else coalesce(decided.attempts, greatest(jobs.attempts - 1, 0))
      end,
      run_at = case
        when decided.fails or {kills}
        then greatest(
          jobs.run_at,
          least(greatest(now(), jobs.run_at), timestamptz '9999-01-01')
            + exp(greatest(least(jobs.attempts, 10), 0)) * interval '1 second'
              * case when {kills} then 1 + random() else 1 end
        )
        else coalesce(decided.run_at, greatest(jobs.run_at, now() + make_interval(secs => $2::float8)))
      end,
      last_error = case
        when decided.fails
        then 'WorkerCrashed'
        else 'Job recovered after worker interruption' || case
          when {interruptions} > 0
          then format(' (%s in a row)', least({interruptions} + 1, 999))
          else ''
        end
      end,
      locked_by = null,
      locked_at = null,
      updated_at = now()
    from unnest($1::bigint[]) as dead(id)
    left join unnest($3::bigint[], $4::boolean[], $5::timestamptz[], $6::smallint[])
      as decided(id, fails, run_at, attempts) on decided.id = dead.id
    where jobs.id = dead.id
    returning jobs.id
""".replace("{retired}", RETIRED)
    .replace("{kills}", _KILLS)
    .replace("{interruptions}", _INTERRUPTIONS)
)
# Of jobs that died together, one may have ended their worker. So each is delayed by a time of its own.
# $1 job ids, $2 seconds, then the jobs about which an interceptor has decided: $3 their ids, $4 whether they
# have failed, $5 when they run and $6 how many attempts count as used; null changes nothing.

LOCK_QUEUES_OF_DEAD = Statement("""
    select queues.id
    from {schema}._private_job_queues as queues
    where queues.locked_by = any($1::text[])
      and not exists (
        select from {schema}._private_jobs as jobs
        where jobs.job_queue_id = queues.id
          and jobs.id = any($2::bigint[])
          and jobs.locked_by = queues.locked_by
      )
    order by queues.id
    for no key update skip locked
""")  # $1 worker ids, $2 jobs that stay locked. Queues that are locked without a job, too.

FREE_QUEUES = Statement("""
    update {schema}._private_job_queues as queues
    set locked_by = null, locked_at = null
    where queues.id = any($1::integer[])
    returning queues.id
""")  # $1 ids of queues whose rows are locked by this transaction

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


@attrs.frozen(kw_only=True)
class RecoveryDecision:
    """The decision about one job of a dead worker."""

    job: Job
    """The job as the dead worker claimed it; a job that was claimed anew meanwhile is left alone."""
    skip: bool = False
    """Whether the job stays locked."""
    fails: bool = False
    """Whether its attempt counts as failed."""
    run_at: datetime | None = None
    attempts: int | None = None


async def sweep(
    database: Transactor,
    options: SweepOptions,
    *,
    sweeper_id: str | None = None,
    dry_run: bool = False,
    decisions: Sequence[RecoveryDecision] = (),
    gone: Sequence[Gone] = (),
) -> SweepReport:
    """Find the dead workers and give their jobs back, all in one transaction.

    Does nothing while another sweep of this schema runs. A dry run only finds them. `sweeper_id` is the
    worker that sweeps, if it is a worker. If `gone` names workers, the sweep is about them alone, and their
    jobs run again at once.
    """
    async with sweep_transaction(database) as connection:
        if not await connection.fetch_value(TRY_LOCK_SWEEP):
            return SweepReport(dry_run=dry_run)
        dead = await _find_dead(connection, options, sweeper_id, gone)
        if dry_run or not dead:
            return SweepReport(worker_ids=dead, dry_run=dry_run)
        recovered = await _recover(connection, dead, 0.0 if gone else options.recovery_delay, decisions)
        await in_savepoints(
            connection, partial(connection.fetch, FORGET_DEAD), dead, what="forgetting workers"
        )
    return SweepReport(worker_ids=dead, recovered_jobs=len(recovered), job_ids=recovered)


async def recover_dead_worker(database: Transactor, worker_id: str) -> int:
    """Give back all jobs of a worker whose process is known to have ended; return how many."""
    async with sweep_transaction(database) as connection:
        recovered = await _recover(connection, [worker_id], 0.0, ())
        await connection.execute(FORGET_DEAD, [worker_id])
    return len(recovered)


async def _recover(
    connection: Connection, dead: Sequence[str], delay: float, decisions: Sequence[RecoveryDecision]
) -> tuple[int, ...]:
    """Give back the jobs and queues of dead workers; return the ids of the jobs."""
    rows = await connection.fetch(LOCK_JOBS_OF_DEAD, dead)
    found = {(row["id"], row["attempts"], row["locked_by"]) for row in rows}
    valid = {d.job.id: d for d in decisions if (d.job.id, d.job.attempts, d.job.locked_by) in found}
    skipped = {id_ for id_, decision in valid.items() if decision.skip}

    async def recover(ids: Sequence[int]) -> Iterator[int]:
        decided = [valid[id_] for id_ in ids if id_ in valid]
        recovered = await connection.fetch(
            RECOVER_JOBS,
            ids,
            delay,
            [decision.job.id for decision in decided],
            [decision.fails for decision in decided],
            [decision.run_at for decision in decided],
            [decision.attempts for decision in decided],
        )
        return (row["id"] for row in recovered)

    wanted = [row["id"] for row in rows if row["id"] not in skipped]
    recovered = await in_savepoints(connection, recover, wanted, what="giving back jobs of dead workers")
    await _free_queues(connection, dead, [*skipped, *set(wanted).difference(recovered)])
    return tuple(recovered)


async def _free_queues(connection: Connection, dead: Sequence[str], locked_jobs: Sequence[int]) -> None:
    """Free the queues of dead workers, except those of jobs that stay locked."""

    async def free(ids: Sequence[int]) -> list[Row]:
        return await connection.fetch(FREE_QUEUES, ids)

    queues = [row["id"] for row in await connection.fetch(LOCK_QUEUES_OF_DEAD, dead, locked_jobs)]
    await in_savepoints(connection, free, queues, what="freeing queues of dead workers")


JOBS_OF_DEAD = Statement(f"""
    select {job_columns()}
    from {jobs_with_names()}
    where jobs.id = any($1::bigint[])
    order by jobs.id
""")  # $1 job ids

FIND_JOBS_OF_DEAD = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.locked_by = any($1::text[])
    order by jobs.id
""")  # $1 worker ids


async def jobs_of_dead(
    database: Transactor,
    options: SweepOptions,
    *,
    sweeper_id: str | None = None,
    gone: Sequence[Gone] = (),
) -> list[Job]:
    """Return the jobs that a sweep would give back now, as far as they can be read. Keeps no locks."""
    async with sweep_transaction(database) as connection:
        dead = await _find_dead(connection, options, sweeper_id, gone)
        if not dead:
            return []

        async def read(ids: Sequence[int]) -> list[Row]:
            return await connection.fetch(JOBS_OF_DEAD, ids)

        ids = [row["id"] for row in await connection.fetch(FIND_JOBS_OF_DEAD, dead)]
        rows = await in_savepoints(connection, read, ids, what="reading jobs of dead workers")
        return [job_from_row(row) for row in rows]


async def _find_dead(
    connection: Connection, options: SweepOptions, sweeper_id: str | None, gone: Sequence[Gone]
) -> tuple[str, ...]:
    if gone:
        return await lock_gone(connection, gone)
    return dead_workers(await _silent_workers(connection, options), options, sweeper_id)


async def _silent_workers(connection: Connection, options: SweepOptions) -> list[SilentWorker]:
    threshold, flags = options.sweep_threshold, options.resilient_flags
    registered = await connection.fetch(LOCK_SILENT_WORKERS, threshold, flags)
    orphans = await connection.fetch(FIND_ORPHANS, threshold)
    return [SilentWorker(**row) for row in (*registered, *orphans)]


_STATEMENTS = (
    TRY_LOCK_SWEEP,
    LOCK_GONE_WORKERS,
    LOCK_SILENT_WORKERS,
    FIND_ORPHANS,
    FIND_JOBS_OF_DEAD,
    JOBS_OF_DEAD,
    LOCK_JOBS_OF_DEAD,
    RECOVER_JOBS,
    LOCK_QUEUES_OF_DEAD,
    FREE_QUEUES,
    FORGET_DEAD,
)
