"""Jobs that Rust's functions have marked as replaced, removed or failed while they ran: they run no more."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.database.functions.calls import add_job
from tests.database.sessions import wait_until_somebody_waits
from trio_graphile import Connection, Database, Job
from trio_graphile._database import held_rows, sweeps, unknown_locks, worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._database.connection import Executor
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.outcomes import Returned

ME = "trio_graphile_me"


@pytest.fixture
async def marked_database(database: Database) -> Database:
    """Lend a database with the table that their revision 22 brings."""
    await database.execute("""
        create table graphile_worker._private_job_retirements (
          id bigint primary key references graphile_worker._private_jobs on delete cascade
        )
    """)
    return database


async def held(database: Database, **options: Any) -> Job:
    await add_job(database, **options)
    [job] = await claims.get_jobs(database, ME, ["a"], 1)
    return job


async def retire(executor: Executor, job: Job) -> None:
    """Replace a running job as they do, by a transaction that is older than the claim."""
    await executor.execute(
        """
        update graphile_worker._private_jobs
        set key = null, attempts = max_attempts, updated_at = now() - interval '1 hour'
        where id = $1::bigint
        """,
        job.id,
    )
    await executor.execute(
        "insert into graphile_worker._private_job_retirements (id) values ($1::bigint)", job.id
    )


async def is_over(database: Database, job: Job) -> bool:
    """Whether nobody has the job, and nobody will take it."""
    row = await database.fetch_row(
        "select is_available, locked_by from graphile_worker._private_jobs where id = $1::bigint", job.id
    )
    assert row is not None
    return row["locked_by"] is None and not row["is_available"]


async def test_a_sweep_does_not_run_a_retired_job_again(marked_database: Database) -> None:
    job = await held(marked_database, job_key="k")
    await worker_registry.heartbeat(marked_database, ME)
    await retire(marked_database, job)
    await marked_database.execute(
        "update graphile_worker._private_workers set last_heartbeat_at = now() - interval '1 hour'"
    )
    report = await sweeps.sweep(marked_database, SweepOptions())
    assert report.job_ids == (job.id,)
    assert await is_over(marked_database, job)


async def test_reconciling_does_not_run_a_retired_job_again(marked_database: Database) -> None:
    job = await held(marked_database, job_key="k")
    await retire(marked_database, job)
    assert await unknown_locks.reconcile(marked_database, ME, []) == {job.id}
    assert await is_over(marked_database, job)


async def test_recovering_a_dead_worker_does_not_run_a_retired_job_again(marked_database: Database) -> None:
    job = await held(marked_database, job_key="k")
    await retire(marked_database, job)
    assert await sweeps.recover_dead_worker(marked_database, ME) == 1
    assert await is_over(marked_database, job)


@pytest.mark.parametrize("options", [{"job_key": "k"}, {"max_attempts": 1}], ids=["keyed", "last attempt"])
async def test_returning_a_retired_job_does_not_run_it_again(
    marked_database: Database, options: dict[str, Any]
) -> None:
    job = await held(marked_database, **options)
    await retire(marked_database, job)
    assert await held_rows.return_jobs(marked_database, ME, [Returned(job)]) == {job.id}
    assert await is_over(marked_database, job)


async def test_who_retires_a_job_just_now_is_waited_for(
    marked_database: Database, connection: Connection
) -> None:
    """The mark is committed after the statement began that finds the job."""
    job = await held(marked_database, job_key="k")
    async with trio.open_nursery() as nursery, connection.transaction():
        await retire(connection, job)
        nursery.start_soon(unknown_locks.reconcile, marked_database, ME, [])
        await wait_until_somebody_waits(marked_database)
    assert await is_over(marked_database, job)
