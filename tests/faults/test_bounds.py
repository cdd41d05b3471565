"""How long an end takes when nothing answers any more: `flush_timeout`, whatever is under way."""

from __future__ import annotations

import pytest
import trio

from tests.database.sessions import wait_until_active
from tests.faults.conftest import Stage
from tests.support.handlers import Handlers
from tests.support.workers import make_worker
from trio_graphile import (
    Client,
    JobContext,
    RecoveryOptions,
    ShutdownIncomplete,
    ShutdownOptions,
    Worker,
    open_database,
)

FLUSH_TIMEOUT = 1.0
SLACK = 0.7
"""For a slow machine. The statement of a handler alone once took a second more than that."""


async def run_until_cancelled(worker: Worker, stage: Stage, handlers: Handlers, how: str) -> float:
    """Cut the worker off and cancel it then; return how long it took to end. Raises what it raised."""
    cancelled_at = 0.0
    ends: list[BaseException] = []

    async def run() -> None:
        try:
            await worker.run()
        except ShutdownIncomplete as error:
            ends.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await handlers.wait_started(2)
        await wait_until_active(stage.database, "%pg_sleep%")
        stage.proxy.swallow()
        handlers.release.set()
        await stage.proxy.holding.wait()
        cancelled_at = trio.current_time()
        if how == "worker":
            worker.cancel()
        else:
            nursery.cancel_scope.cancel()
    took = trio.current_time() - cancelled_at
    assert [type(end) for end in ends] == [ShutdownIncomplete]
    return took


@pytest.mark.parametrize("how", ["worker", "nursery"])
async def test_a_cancel_in_a_black_hole_takes_no_longer_than_the_flush_timeout(
    how: str, stage: Stage
) -> None:
    """A handler waits for an answer; a claim, a sweep and an outcome are under way, or about to be."""
    handlers = Handlers()

    @handlers.tasks.task("asking")
    async def asking(context: JobContext) -> None:
        handlers.started.append(context.job)
        await context.database.fetch("select pg_sleep(600)")

    await Client(stage.database, handlers.tasks).add_raw_jobs([("asking", None), ("held", None)])
    async with open_database(stage.proxy.url) as patient:
        worker = make_worker(
            patient,
            handlers.tasks,
            poll_interval=0.05,
            recovery=RecoveryOptions(sweep_interval=0.05),
            shutdown=ShutdownOptions(grace_period=0, flush_timeout=FLUSH_TIMEOUT),
        )
        took = await run_until_cancelled(worker, stage, handlers, how)
    assert took <= FLUSH_TIMEOUT + SLACK
