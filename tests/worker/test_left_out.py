"""What a claim leaves out, since it would be dear to find, is found a little later, and by nobody's help."""

from __future__ import annotations

import pytest

from tests.support.handlers import Handlers
from tests.support.looking_back import have_all_claims_look_back
from tests.support.workers import make_worker, running
from trio_graphile import Client, Database, JobContext, JobSpec

BETTER = JobSpec(priority=-1)


@pytest.fixture(autouse=True)
def everything_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    have_all_claims_look_back(monkeypatch, every=1.0)


async def test_a_worker_looks_again_although_nothing_is_announced(
    database: Database, client: Client, handlers: Handlers
) -> None:
    await client.add_raw_jobs([("quick", None)] * 2)
    async with running(make_worker(database, handlers.tasks, concurrency=1)):
        await handlers.wait_ended(2)
        better = await client.add_raw_job("quick", None, BETTER)
        await handlers.wait_ended(3)
    assert handlers.ended[2].id == better.id


async def test_a_drain_does_not_end_before_it_has_looked_everywhere(
    database: Database, client: Client, handlers: Handlers
) -> None:
    @handlers.tasks.task("adding")
    async def adding(context: JobContext) -> None:
        await context.client.add_raw_job("quick", None, BETTER)

    await client.add_raw_jobs([("quick", None), ("adding", None)])
    report = await make_worker(database, handlers.tasks, concurrency=1).run_once()
    assert report.completed == 3
