"""Samples for charts are taken by workers, whose jobs have nothing to do with that."""

from __future__ import annotations

import pytest

from tests.support.handlers import Handlers
from tests.support.notices import noticing
from tests.support.tables import Table
from tests.support.workers import make_worker, running
from trio_graphile import Client, Database, RecoveryOptions, StopCause, Worker

REFUSE = """
    create function graphile_worker.refuse() returns trigger language plpgsql as $$
    begin
      raise insufficient_privilege;
    end
    $$;
    create trigger refuse before insert on graphile_worker.trio_graphile_samples
    for each statement execute function graphile_worker.refuse();
"""
WAITS = """
    select exists (
      select
      from pg_locks
      where not granted
        and relation = 'graphile_worker.trio_graphile_samples'::regclass
    )
"""


def sampling_worker(database: Database, handlers: Handlers) -> Worker:
    """Return a worker that takes its first sample at once."""
    return make_worker(database, handlers.tasks, recovery=RecoveryOptions(sweep_interval=0.02))


@pytest.mark.parametrize(
    "obstacle", ["drop table graphile_worker.trio_graphile_samples", REFUSE], ids=["gone", "refused"]
)
async def test_a_worker_that_can_take_no_sample_says_so_and_works(
    database: Database, client: Client, handlers: Handlers, table: Table, obstacle: str
) -> None:
    await database.execute(obstacle)
    with noticing() as notices:
        async with running(sampling_worker(database, handlers)) as run:
            await notices.wait_for("taking a sample failed and is tried again later")
            await client.add_raw_job("quick")
            await handlers.wait_ended(1)
            await run.stop()
    assert await table.jobs() == []


async def test_a_sample_that_waits_for_a_lock_keeps_no_worker_from_stopping(
    database: Database, handlers: Handlers, table: Table
) -> None:
    async with database.transaction() as other:
        await other.execute("lock table graphile_worker.trio_graphile_samples in access exclusive mode")
        async with running(sampling_worker(database, handlers)) as run:
            await table.wait_until(WAITS)
            report = await run.stop()  # while the lock is held
    assert report.cause is StopCause.STOPPED
