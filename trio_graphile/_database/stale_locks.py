"""Stale locks: those that are hours old, whoever has them. Locks are compared with the database's clock."""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.connection import Connection, Row, Transactor
from trio_graphile._database.dead_jobs import FREE_QUEUES
from trio_graphile._database.halves import in_savepoints
from trio_graphile._database.held_rows import ANNOUNCED
from trio_graphile._database.statement import Statement
from trio_graphile._database.sweeps import LONGEST_SILENCE
from trio_graphile._model.recovery import ResetReport

LOCK_STALE_JOBS = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.locked_at < now() - interval '4 hours'
    order by jobs.id
    for no key update skip locked
""")

RELEASE_JOBS = Statement(
    """
    with returned as (
      update {schema}._private_jobs as jobs
      set locked_by = null, locked_at = null, run_at = greatest(jobs.run_at, now())
      where jobs.id = any($1::bigint[])
      returning jobs.id, jobs.run_at, jobs.attempts, jobs.max_attempts
    )
    select returned.id, {announced}
    from returned
""".replace("{announced}", ANNOUNCED)
)  # $1 ids of jobs whose rows are locked by this transaction. As Node does it: attempts and error stay.

LOCK_STALE_QUEUES = Statement("""
    select queues.id
    from {schema}._private_job_queues as queues
    where queues.locked_at < now() - interval '4 hours'
    order by queues.id
    for no key update skip locked
""")


async def reset_stale_locks(database: Transactor) -> ResetReport:
    """Release jobs and queues that have been locked for over four hours, by any worker."""
    async with brief_transaction(
        database, "read_committed", longest_silence=LONGEST_SILENCE, statements=_STATEMENTS
    ) as connection:
        jobs = await _release(connection, LOCK_STALE_JOBS, RELEASE_JOBS, what="releasing old locks of jobs")
        queues = await _release(
            connection, LOCK_STALE_QUEUES, FREE_QUEUES, what="releasing old locks of queues"
        )
    return ResetReport(jobs=jobs, queues=queues)


async def _release(connection: Connection, find: Statement, release: Statement, *, what: str) -> int:
    async def attempt(ids: Sequence[int]) -> list[Row]:
        return await connection.fetch(release, ids)

    ids = [row["id"] for row in await connection.fetch(find)]
    return len(await in_savepoints(connection, attempt, ids, what=what))


_STATEMENTS = (LOCK_STALE_JOBS, RELEASE_JOBS, LOCK_STALE_QUEUES, FREE_QUEUES)
