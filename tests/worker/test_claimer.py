"""What is claimed after a claim that took long, or brought nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import trio

from tests.support.handlers import Handlers
from trio_graphile import Client, Database, Job, JobSpec
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._database.claiming.memory import Front, Plain
from trio_graphile._database.session import Session
from trio_graphile._model.bounds import FlagRules


@contextlib.asynccontextmanager
async def claimer_of(database: Database, handlers: Handlers) -> AsyncIterator[Claimer]:
    session = Session(database, "claim", 5.0)
    claimer = Claimer(session, "trio_graphile_me")
    claimer.share(handlers.tasks.identifiers, [])
    async with contextlib.aclosing(session):
        yield claimer


LONG = 0.05
"""So long a claim is held up: more than what is taken for slow."""


async def test_a_job_before_the_place_that_was_remembered_is_claimed_when_there_are_no_more_behind_it(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """How long anything takes here decides by which way it is found, and not whether."""
    async with claimer_of(database, handlers) as claimer:
        first, second = await client.add_raw_jobs([("quick", None)] * 2)
        claimed: list[int] = []

        async def claim(limit: int) -> None:
            claimed.extend(job.id for job in await claimer.claim(limit, FlagRules(), ()))

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


class Unhurried(Front):
    """A front that takes no claim for slow, however long it took."""

    def learn(self, jobs: Sequence[Job], took: float, now: float) -> None: ...


async def test_claims_go_on_plainly_until_there_is_something_that_a_plain_one_does_not_take(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """That one brought nothing is no reason: there may be nothing to be had."""
    async with claimer_of(database, handlers) as claimer:
        assert await claimer.claim(5, FlagRules(), ()) == []
        [source] = claimer.sources
        source.front = front = Unhurried()
        front.seen(Plain.NONE_QUEUED, trio.current_time() + 3600)
        assert await claimer.claim(5, FlagRules(), ()) == []
        assert front.plain(trio.current_time()) is Plain.NONE_QUEUED
        queued = await client.add_raw_job("quick", None, JobSpec(queue_name="q"))
        assert [job.id for job in await claimer.claim(5, FlagRules(), ())] == [queued.id]
        assert front.plain(trio.current_time()) is None
