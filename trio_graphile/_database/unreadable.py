"""Jobs that no client can read, since their bytes are no text in UTF-8; failed, so that others are claimed.

Only a database that accepts any bytes has them, one in SQL_ASCII say. The server refuses the whole statement
that would return one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.halves import in_halves
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import StatementFailed

logger = logging.getLogger("trio_graphile.database")

_NOT_UTF8 = frozenset({"22021", "22P05"})
_CHUNK_JOBS = 2000  # jobs for one statement

FIND_CLAIMABLE = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.is_available = true
      and jobs.run_at <= now()
      and jobs.task_id = any(array(
        select tasks.id
        from {schema}._private_tasks as tasks
        where tasks.identifier = any($1::text[])
      ))
    order by jobs.priority, jobs.run_at
""")  # $1 identifiers

CHECK_ERRORS = Statement("""
    select sum(length(convert_to(jobs.last_error, 'UTF8')))
    from {schema}._private_jobs as jobs
    where jobs.id = any($1::bigint[])
""")  # $1 job ids. Refused for what is not UTF-8; nothing of it is sent.

CHECK_JOBS = Statement("""
    select sum(length(convert_to(
      concat(jobs.payload::text, jobs.key, jobs.flags::text, queues.queue_name), 'UTF8'
    )))
    from {schema}._private_jobs as jobs
    left join {schema}._private_job_queues as queues on queues.id = jobs.job_queue_id
    where jobs.id = any($1::bigint[])
""")  # as above

REPLACE_ERRORS = Statement("""
    update {schema}._private_jobs as jobs
    set last_error = '(an error that is not UTF-8)'
    where jobs.id = any($1::bigint[])
      and jobs.is_available = true
""")  # $1 job ids

FAIL_UNREADABLE = Statement("""
    update {schema}._private_jobs as jobs
    set attempts = greatest(jobs.attempts, jobs.max_attempts),
      last_error = 'Its payload, key, flags or queue are not UTF-8: nobody can read it'
    where jobs.id = any($1::bigint[])
      and jobs.is_available = true
""")  # $1 job ids


def is_unreadable(error: StatementFailed) -> bool:
    """Whether the server refused a statement because its answer would not be UTF-8."""
    return error.sqlstate in _NOT_UTF8


async def fail_unreadable(executor: Executor, identifiers: Sequence[str]) -> bool:
    """Fail for good the jobs of these tasks that cannot be read; return whether there were any.

    If only the last error of a job cannot be read, it is replaced instead.
    """
    ids = [row["id"] for row in await executor.fetch(FIND_CLAIMABLE, list(identifiers))]
    errors = await _refused(executor, CHECK_ERRORS, ids)
    if errors:
        await executor.execute(REPLACE_ERRORS, errors)
    jobs = await _refused(executor, CHECK_JOBS, ids)
    if jobs:
        await executor.execute(FAIL_UNREADABLE, jobs)
        logger.error("jobs that are not UTF-8 cannot be read, and have failed for good: %s", jobs)
    return bool(errors or jobs)


async def _refused(executor: Executor, check: Statement, ids: Sequence[int]) -> list[int]:
    async def attempt(part: Sequence[int]) -> list[Row]:
        return await executor.fetch(check, part)

    found: list[int] = []
    for start in range(0, len(ids), _CHUNK_JOBS):
        _, refused = await in_halves(attempt, ids[start : start + _CHUNK_JOBS])
        found += (id_ for id_, error in refused if is_unreadable(error))
    return found
