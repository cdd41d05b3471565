"""What a worker claims, after a claim that took long."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from tests.support.handlers import Handlers
from trio_graphile import Client, Database, Job, JobSpec, WorkerOptions
from trio_graphile._model.claims import Front, Plain
from trio_graphile._worker.holdings import Holdings
from trio_graphile._worker.ledger import Ledger

LONG = 0.05
"""So long a claim is held up: more than what is taken for slow."""


async def test_a_job_before_the_place_that_was_remembered_is_claimed_when_there_are_no_more_behind_it(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """How long anything takes here decides by which way it is found, and not whether."""
    holdings = Holdings(
        database, handlers.tasks, WorkerOptions(), "trio_graphile_me", patience=5.0, ledger=Ledger()
    )
    await holdings.prepare()
    first, second = await client.add_raw_jobs([("quick", None)] * 2)
    claimed: list[int] = []

    async def claim(limit: int) -> None:
        claimed.extend(job.id for job in await holdings.claim(limit))

    async with trio.open_nursery() as nursery, database.transaction() as connection:
        await connection.execute("lock table graphile_worker._private_tasks")
        began = trio.current_time()
        nursery.start_soon(claim, 1)
        while trio.current_time() < began + LONG:
            await connection.fetch_value("select 1")
    assert claimed == [first.id]
    better = await client.add_raw_job("quick", None, JobSpec(priority=-1))
    await claim(5)
    assert sorted(claimed) == [first.id, second.id, better.id]
    await holdings.release_rest()
    await holdings.aclose()


class Unhurried(Front):
    """A front that takes no claim for slow, however long it took."""

    def learn(self, jobs: Sequence[Job], took: float, now: float) -> None: ...


async def test_claims_go_on_plainly_until_there_is_something_that_a_plain_one_does_not_take(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """That one brought nothing is no reason: there may be nothing to be had."""
    holdings = Holdings(
        database, handlers.tasks, WorkerOptions(), "trio_graphile_me", patience=5.0, ledger=Ledger()
    )
    await holdings.prepare()
    assert await holdings.claim(5) == []
    [source] = holdings.claimer.sources
    source.front = front = Unhurried()
    front.seen(Plain.NONE_QUEUED, trio.current_time() + 3600)
    assert await holdings.claim(5) == []
    assert front.plain(trio.current_time()) is Plain.NONE_QUEUED
    queued = await client.add_raw_job("quick", None, JobSpec(queue_name="q"))
    assert [job.id for job in await holdings.claim(5)] == [queued.id]
    assert front.plain(trio.current_time()) is None
    await holdings.release_rest()
    await holdings.aclose()
