"""Rows that refuse to be claimed."""

from __future__ import annotations

from tests.worker.conftest import Handlers
from tests.worker.runs import make_worker, noticing, running
from trio_graphile import Client, Database, JobSpec

REFUSE_CLAIM = """
    create function public.refuse_claim() returns trigger language plpgsql as $$
    begin
      if old.locked_by is null and new.locked_by is not null and new.priority = 7 then
        raise exception 'not this one';
      end if;
      return new;
    end
    $$;
    create trigger refuse_claim before update on graphile_worker._private_jobs
      for each row execute function public.refuse_claim()
"""


async def test_a_row_that_cannot_be_claimed_does_not_end_a_worker(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """It goes on once the row lets itself be claimed; until then it says so."""
    await database.execute(REFUSE_CLAIM)
    [refused] = await client.add_raw_jobs([("quick", None, JobSpec(priority=7))])
    worker = make_worker(database, handlers.tasks, poll_interval=0.05)
    with noticing() as notices:
        async with running(worker) as run:
            await notices.wait_for("claiming failed")
            await database.execute("drop trigger refuse_claim on graphile_worker._private_jobs")
            await handlers.wait_ended(1)
            await run.stop()
    assert [job.id for job in handlers.ended] == [refused.id]
