"""Oban for Python in the storm: installs its schema, adds jobs, or is a worker.

Its stop, by https://oban.pro/docs/py: leaving the block stops queues, waits `shutdown_grace_period` for
their jobs, and cancels the tasks of the others, whose jobs stay `executing` until the lifeline finds them.
So that fewer do, ours hear of the end of the grace period from this program a second before that, and
return `Snooze`, which gives a job back with its attempt. The lifeline rescues by time alone: `rescue_after`
has to exceed what a job may take. https://oban.pro/docs/py/0.5.0/job_maintenance.html has both of its
options.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # it knows nothing else
import logging
import signal
from typing import Any

import psycopg
from oban import Oban, Snooze, worker  # type: ignore[import-not-found]
from oban.schema import install  # type: ignore[import-not-found]

from tests.storm.peers.program import (
    Interruptible,
    adding,
    leave,
    lines,
    open_handler,
    run_program,
    say_ready,
    told,
)

_TO_SNOOZE = 1.0  # seconds between the end of the grace period and that of Oban's
_LIFELINE = {"interval": 30.0, "rescue_after": 60.0}  # the longest job takes 12


@worker(queue="default", max_attempts=25)
class Work:
    interruptible: Interruptible

    async def process(self, job: Any) -> Snooze | None:
        try:
            await self.interruptible.run(job.args, job.attempt)
        except asyncio.CancelledError:  # noqa: ASYNC103  # it is given back
            if not self.interruptible.is_over:
                raise
            return Snooze(0)  # noqa: ASYNC104
        return None


async def setup() -> None:
    pool = await Oban.create_pool(told().database_url, min_size=1, max_size=1)
    await install(pool)
    await pool.close()


async def add() -> None:
    pool = await Oban.create_pool(told().database_url, min_size=1, max_size=1)
    oban = Oban(pool=pool)
    async for payloads in lines():
        with adding(psycopg.Error):
            await oban.enqueue_many(
                Work.new(payload)  # type: ignore[attr-defined]
                for payload in payloads
            )
    await pool.close()


async def work() -> None:
    logging.basicConfig(level=logging.WARNING)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    async with open_handler() as handler:
        interruptible = Work.interruptible = Interruptible(handler)
        pool = await Oban.create_pool(told().database_url, min_size=1, max_size=told().concurrency + 2)
        oban = Oban(
            pool=pool,
            node=told().worker,
            queues={"default": told().concurrency},
            lifeline=_LIFELINE,
            shutdown_grace_period=told().grace + _TO_SNOOZE,
        )
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        async with oban:
            say_ready()
            await stopping.wait()
            loop.call_later(told().grace, interruptible.interrupt)
        await pool.close()
        leave()  # handlers that heed nothing would keep the loop, though it has given them up


if __name__ == "__main__":
    run_program(setup=setup, add=add, worker=work)
