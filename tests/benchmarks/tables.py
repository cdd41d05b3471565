"""What is in Graphile Worker's tables before something is measured: jobs to run, and jobs in their way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_graphile import Database, DatabaseOptions, open_database

TASK = "nothing"
FOREIGN_TASK = "somebody else's"
STRANGER = "a worker that we know nothing of"
_DAY = 86_400.0

_INSERT_TASK = """
    insert into graphile_worker._private_tasks (identifier)
    values ($1)
    on conflict do nothing
"""
_INSERT_QUEUES = """
    insert into graphile_worker._private_job_queues (queue_name, locked_by, locked_at)
    select $1 || number, $3, case when $3::text is not null then now() end
    from generate_series(0, $2::integer - 1) as number
"""  # $1 their names without the number, $2 how many, $3 who has locked them, or null
_INSERT_JOBS = """
    insert into graphile_worker._private_jobs (task_id, payload, priority, run_at, attempts, job_queue_id)
    select tasks.id, json_build_object('n', number), $3::smallint,
      now() + ($4::float8 - $8::float8 * ($2::integer - number)) * interval '1 second',
      $5::smallint, queues.id
    from generate_series(1, $2::integer) as number
    join graphile_worker._private_tasks as tasks on tasks.identifier = $1
    left join graphile_worker._private_job_queues as queues
      on queues.queue_name = $6 || number % nullif($7::integer, 0)
    order by number
"""
# $1 task, $2 how many, $3 priority, $4 seconds until the last is due, $5 attempts, $6 and $7 their queues, $8
# the seconds from one to the next

_CLAIM_ALL = """
    update graphile_worker._private_jobs
    set attempts = attempts + 1, locked_by = $1::text, locked_at = now()
"""


@asynccontextmanager
async def prepared(url: str) -> AsyncIterator[Database]:
    """Lend the database to somebody who fills it, and leave the server with nothing to do."""
    async with open_database(url, DatabaseOptions(statement_timeout=_DAY)) as database:
        yield database
        await settle(database)


async def settle(database: Database) -> None:
    """Let the server do at once what it would do soon: the next measurement would pay for it."""
    await database.execute("vacuum (analyze)")
    await database.execute("checkpoint")


async def fill(url: str, jobs: int) -> None:
    """Put jobs into the table, the same way whoever installed it."""
    async with prepared(url) as database:
        await insert_jobs(database, jobs)


async def insert_jobs(
    database: Database,
    jobs: int,
    *,
    task: str = TASK,
    priority: int = 0,
    delay: float = 0.0,
    attempts: int = 0,
    queue: str = "",
    queues: int = 0,
    every: float = 0.0,
) -> None:
    """Add jobs, spread over queues with this name and numbers behind it if there are to be `queues`.

    The last is due after a delay, and each so many seconds before the next. Durations are seconds.
    """
    await database.execute(_INSERT_TASK, task)
    await database.execute(_INSERT_JOBS, task, jobs, priority, delay, attempts, queue, queues, every)


async def insert_stuck(database: Database, jobs: int) -> None:
    """Add jobs of a better priority, in two queues that somebody else has locked."""
    await database.execute(_INSERT_QUEUES, "locked ", 2, STRANGER)
    await insert_jobs(database, jobs, priority=-1, queue="locked ", queues=2)


async def insert_queued(database: Database, jobs: int, queues: int) -> None:
    """Add jobs in named queues."""
    await database.execute(_INSERT_QUEUES, "queue ", queues, None)
    await insert_jobs(database, jobs, queue="queue ", queues=queues)


async def insert_crowd(database: Database, kind: str, jobs: int) -> None:
    """Add jobs that are not to be run: `future`, `exhausted` or `foreign`."""
    match kind:
        case "future":
            await insert_jobs(database, jobs, delay=_DAY)
        case "exhausted":
            await insert_jobs(database, jobs, attempts=25)
        case "foreign":
            await insert_jobs(database, jobs, task=FOREIGN_TASK)
        case _:
            raise ValueError(kind)


@asynccontextmanager
async def snapshot_held(url: str) -> AsyncIterator[None]:
    """Have a session with an open transaction for the length of the block: no dead row can be removed."""
    async with open_database(url) as database, database.transaction("repeatable_read") as connection:
        await connection.fetch_value("select count(*) from graphile_worker._private_tasks")
        yield


async def leave_dead(database: Database, jobs: int, rate: float) -> None:
    """Leave the rows of so many jobs that were due, so many a second, and have been claimed and completed."""
    await insert_jobs(database, jobs, every=1 / rate)
    await database.execute(_CLAIM_ALL, STRANGER)
    await database.execute("delete from graphile_worker._private_jobs")


async def is_empty(database: Database) -> bool:
    """Say whether no job is left, running or not."""
    return not await database.fetch_value("select exists (select from graphile_worker._private_jobs)")
