"""PgQueuer in the storm: installs its schema, adds jobs, or is a worker.

Its stop, by https://janbjorge.github.io/pgqueuer/guides/deployment/: at SIGTERM it takes no more jobs and
waits for those that run, without a bound; supervisors are told to give it enough time. It tells handlers
nothing. Ours hear of the end of the grace period from this program, and raise `RetryRequested`, with which
handlers give a job back: https://janbjorge.github.io/pgqueuer/guides/reliability/. Jobs of a killed worker
are taken again once they have had no heartbeat for `heartbeat_timeout`, which is 30 s by default:
https://janbjorge.github.io/pgqueuer/guides/heartbeat/.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # it knows nothing else
import json
import logging
import signal
from datetime import timedelta
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from pgqueuer import PgQueuer, Queries  # type: ignore[import-not-found]
from pgqueuer.errors import RetryRequested  # type: ignore[import-not-found]

from tests.storm.peers.program import (
    Handler,
    Interruptible,
    adding,
    leave,
    lines,
    open_handler,
    run_program,
    say_ready,
    told,
)


async def setup() -> None:
    async with asyncpg.create_pool(told().database_url, min_size=1, max_size=1) as pool:
        await Queries.from_asyncpg_pool(pool).install()


async def add() -> None:
    async with asyncpg.create_pool(told().database_url, min_size=1, max_size=1) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        async for jobs in lines():
            payloads = [json.dumps(job).encode() for job in jobs]
            with adding(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await queries.enqueue(["work"] * len(jobs), payloads, [0] * len(jobs))


async def run_worker(pool: Any, handler: Handler) -> None:
    queuer = PgQueuer.from_asyncpg_pool(pool)
    interruptible = Interruptible(handler)

    async def work(job: Any) -> None:
        try:
            await interruptible.run(json.loads(job.payload), job.attempts + 1)
        except asyncio.CancelledError:
            if not interruptible.is_over:
                raise
            raise RetryRequested(delay=timedelta(0), reason="the worker stops") from None  # noqa: ASYNC104

    def stop() -> None:
        queuer.shutdown.set()
        asyncio.get_running_loop().call_later(told().grace, interruptible.interrupt)

    queuer.entrypoint("work")(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    say_ready(queuer.qm.queue_manager_id)
    await queuer.run(batch_size=told().concurrency // 2, max_concurrent_tasks=told().concurrency)


async def worker() -> None:
    logging.basicConfig(level=logging.WARNING)
    async with (
        open_handler() as handler,
        asyncpg.create_pool(told().database_url, min_size=1, max_size=told().concurrency + 2) as pool,
    ):
        await run_worker(pool, handler)
        leave()


if __name__ == "__main__":
    run_program(setup=setup, add=add, worker=worker)
