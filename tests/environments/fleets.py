"""Workers under load in front of servers that fail over, and a count of what was lost or came twice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import trio

from tests.faults.load import PATIENCE, Load, check_nothing_locked
from trio_graphile import (
    Client,
    DatabaseError,
    DatabaseOptions,
    JobContext,
    LocalQueueOptions,
    Worker,
    WorkerOptions,
    open_database,
)

WORKERS = 2
IMPATIENT = DatabaseOptions(pool_size=4, connect_timeout=2.0, statement_timeout=5.0)
PACE = 0.01
"""How many seconds pass between two jobs whose work is done exactly once."""


@attrs.frozen
class Fleet:
    """Workers under a load that does not end by itself."""

    load: Load
    client: Client
    promised: list[int] = attrs.field(factory=list)
    """The jobs of which the database said that they are added, and whose work is done exactly once."""

    async def keep_promising(self, enough: trio.Event) -> None:
        while not enough.is_set():
            with contextlib.suppress(DatabaseError):
                self.promised.append((await self.client.add_raw_job("once")).id)
            await trio.sleep(PACE)

    async def wait_resumed(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.load.wait_resumed()


async def do_once(context: JobContext) -> None:
    async with context.complete_in_transaction() as connection:
        await connection.execute("insert into public.done (id) values ($1::bigint)", context.job.id)


@contextlib.asynccontextmanager
async def fleet(url: str) -> AsyncIterator[Fleet]:
    """Run workers under load; afterwards no job is left, and none is locked."""
    load = Load()
    load.tasks.task("once")(do_once)
    options = WorkerOptions(concurrency=4, poll_interval=0.5, local_queue=LocalQueueOptions(size=10))
    async with (
        open_database(url, IMPATIENT) as clients,
        open_database(url, IMPATIENT) as own,
        trio.open_nursery() as nursery,
    ):
        await clients.execute("create table public.done (id bigint)")
        workers = [Worker(own, load.tasks, options) for _ in range(WORKERS)]
        for worker in workers:
            await nursery.start(worker.run)
        run = Fleet(load, Client(clients, load.tasks))
        enough = trio.Event()
        nursery.start_soon(run.keep_promising, enough)
        nursery.start_soon(load.keep_adding, run.client)
        await load.wait_returned(30)
        yield run
        enough.set()
        await load.finish(clients)
        for worker in workers:
            worker.stop()
        nursery.cancel_scope.deadline = trio.current_time() + PATIENCE
    async with open_database(url) as database:
        await check_nothing_locked(database)


async def check_nothing_lost(url: str, run: Fleet) -> None:
    """Every job that was added was completed, each effect is there once, and no recorded job ran again."""
    assert run.load.check() <= run.load.uncertain, "a job ran again although its first run was recorded"
    async with open_database(url) as database:
        rows = await database.fetch("select id, count(*) as times from public.done group by id")
    times = {row["id"]: row["times"] for row in rows}
    assert set(times.values()) == {1}
    assert not set(run.promised) - times.keys()
