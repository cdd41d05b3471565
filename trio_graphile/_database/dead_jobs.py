"""The jobs of dead workers: read, or given back with their queues, in the transaction of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import attrs

from trio_graphile._database.connection import Connection, Row
from trio_graphile._database.halves import in_savepoints
from trio_graphile._database.held_rows import ANNOUNCED, QUEUES_ANNOUNCED, RETIRED
from trio_graphile._database.rows import job_columns, job_from_row, jobs_with_names
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job

MOST_INTERRUPTIONS = 3
"""From how many deaths of its workers in a row on a job counts as the cause, and its attempt as failed."""

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

_WAS_STOPPING = """exists (
          select from {schema}._private_workers as workers
          where workers.id = jobs.locked_by
            and workers.metadata ->> 'phase' = 'stopping'
        )"""
# Whoever kills a worker that takes long to stop, as Kubernetes does after its grace period, says nothing
# about its jobs. So these deaths are not counted.

_KILLS = f"(decided.id is null and {_INTERRUPTIONS} >= {MOST_INTERRUPTIONS - 1} and not {_WAS_STOPPING})"

RECOVER_JOBS = Statement(
    """
    with returned as (
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
          when {was_stopping}
          then case
            when {interruptions} > 0
            then jobs.last_error
            else 'Job recovered after worker interruption (while it stopped)'
          end
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
      returning jobs.id, jobs.run_at, jobs.attempts, jobs.max_attempts
    )
    select returned.id, {announced}
    from returned
""".replace("{retired}", RETIRED)
    .replace("{kills}", _KILLS)
    .replace("{was_stopping}", _WAS_STOPPING)
    .replace("{interruptions}", _INTERRUPTIONS)
    .replace("{announced}", ANNOUNCED)
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

FREE_QUEUES = Statement(
    """
    with freed as (
      update {schema}._private_job_queues as queues
      set locked_by = null, locked_at = null
      where queues.id = any($1::integer[])
      returning queues.id
    )
    select freed.id, {announced}
    from freed
""".replace("{announced}", QUEUES_ANNOUNCED)
)  # $1 ids of queues whose rows are locked by this transaction


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


async def give_back(
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


async def read(connection: Connection, dead: Sequence[str]) -> list[Job]:
    """Return the jobs of dead workers, as far as they can be read."""

    async def attempt(ids: Sequence[int]) -> list[Row]:
        return await connection.fetch(JOBS_OF_DEAD, ids)

    ids = [row["id"] for row in await connection.fetch(FIND_JOBS_OF_DEAD, dead)]
    rows = await in_savepoints(connection, attempt, ids, what="reading jobs of dead workers")
    return [job_from_row(row) for row in rows]


STATEMENTS = (
    FIND_JOBS_OF_DEAD,
    JOBS_OF_DEAD,
    LOCK_JOBS_OF_DEAD,
    RECOVER_JOBS,
    LOCK_QUEUES_OF_DEAD,
    FREE_QUEUES,
)
