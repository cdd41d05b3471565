"""Deletes rows that are no longer needed, while programs add jobs.

A task or a queue may be deleted only while nobody adds a job to it. Programs that add one first insert the
missing names, even if none is missing, by functions of ours, of Node or of Rust; until they commit, they have
the table locked for that. So we lock the table against such inserts, and what we then read stays so. Our own
adds that insert no name hold a key-share lock on the rows instead: we leave out rows that somebody has
locked, and read the others again by a second statement, which sees what was committed before our lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.connection import Connection
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.jobs import Cleanup

_LOCK_NOT_AVAILABLE = "55P03"


async def clean_up(connection: Connection, what: Cleanup, kept_identifiers: Sequence[str]) -> int:
    """Delete one kind of rows, in a transaction of its own; return how many.

    None if some other transaction is adding jobs and stays open for longer than a second.
    """
    try:
        return await _clean_up(connection, what, kept_identifiers)
    except StatementFailed as error:
        if error.sqlstate != _LOCK_NOT_AVAILABLE:
            raise
        return 0


async def _clean_up(connection: Connection, what: Cleanup, kept_identifiers: Sequence[str]) -> int:
    async with brief_transaction(connection, "read_committed"):
        await connection.execute(LIMIT_WAIT)
        match what:
            case Cleanup.DELETE_PERMANENTLY_FAILED_JOBS:
                return await delete_permanently_failed_jobs(connection)
            case Cleanup.GC_TASK_IDENTIFIERS:
                return await gc_task_identifiers(connection, kept_identifiers)
            case Cleanup.GC_JOB_QUEUES:
                return await gc_job_queues(connection)
            case _:
                assert_never(what)


LIMIT_WAIT = "select set_config('lock_timeout', '1s', true)"
# Programs that add jobs wait behind us meanwhile.

DELETE_PERMANENTLY_FAILED_JOBS = Statement("""
    with chosen as (
      select jobs.id
      from {schema}._private_jobs as jobs
      where jobs.attempts >= jobs.max_attempts
        and jobs.locked_at is null
      for update skip locked
    ),
    deleted as (
      delete from {schema}._private_jobs as jobs
      using chosen
      where jobs.id = chosen.id
      returning jobs.id
    )
    select count(*)
    from deleted
""")


async def delete_permanently_failed_jobs(connection: Connection) -> int:
    """Delete the jobs that have no attempt left and do not run."""
    return int(await connection.fetch_value(DELETE_PERMANENTLY_FAILED_JOBS))


LOCK_TASKS = Statement("lock table {schema}._private_tasks in share row exclusive mode")
LOCK_IDLE_TASKS = Statement("""
    select tasks.id
    from {schema}._private_tasks as tasks
    where tasks.identifier <> all($1::text[])
      and not exists (
        select from {schema}._private_jobs as jobs
        where jobs.task_id = tasks.id
      )
    for update skip locked
""")  # $1 identifiers to keep
GC_TASK_IDENTIFIERS = Statement("""
    with deleted as (
      delete from {schema}._private_tasks as tasks
      where tasks.id = any($1::integer[])
        and not exists (
          select from {schema}._private_jobs as jobs
          where jobs.task_id = tasks.id
        )
      returning tasks.id
    )
    select count(*)
    from deleted
""")  # $1 ids of the rows that were locked


async def gc_task_identifiers(connection: Connection, kept_identifiers: Sequence[str]) -> int:
    """Delete the tasks without a job, except those to be kept. Needs a transaction."""
    await connection.execute(LOCK_TASKS)
    rows = await connection.fetch(LOCK_IDLE_TASKS, kept_identifiers)
    return int(await connection.fetch_value(GC_TASK_IDENTIFIERS, [row["id"] for row in rows]))


LOCK_QUEUES = Statement("lock table {schema}._private_job_queues in share row exclusive mode")
LOCK_IDLE_QUEUES = Statement("""
    select queues.id
    from {schema}._private_job_queues as queues
    where queues.locked_at is null
      and not exists (
        select from {schema}._private_jobs as jobs
        where jobs.job_queue_id = queues.id
      )
    for update skip locked
""")
GC_JOB_QUEUES = Statement("""
    with deleted as (
      delete from {schema}._private_job_queues as queues
      where queues.id = any($1::integer[])
        and not exists (
          select from {schema}._private_jobs as jobs
          where jobs.job_queue_id = queues.id
        )
      returning queues.id
    )
    select count(*)
    from deleted
""")  # $1 ids of the rows that were locked


async def gc_job_queues(connection: Connection) -> int:
    """Delete the queues without a job that no worker has locked. Needs a transaction."""
    await connection.execute(LOCK_QUEUES)
    rows = await connection.fetch(LOCK_IDLE_QUEUES)
    return int(await connection.fetch_value(GC_JOB_QUEUES, [row["id"] for row in rows]))
