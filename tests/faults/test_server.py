"""A server that ends sessions, stops, crashes or turns read-only: the worker waits, and goes on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import trio

from tests.faults.conftest import Figures
from tests.faults.load import PATIENCE, Load, check_nothing_locked
from tests.support.notices import Notices
from trio_graphile import (
    Client,
    Database,
    DatabaseOptions,
    LocalQueueOptions,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres

ROUNDS = 2
IN_MEMORY = memory if (memory := Path("/dev/shm")).is_dir() else None

DIRECT = DatabaseOptions(pool_size=1)
"""One session for the test, so that every other session of the database is the worker's."""

SESSIONS = """
    select pid, application_name
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    order by application_name, pid
"""
END_SESSIONS = """
    select count(pg_terminate_backend(pid))
    from pg_stat_activity
    where datname = current_database()
      and pid <> pg_backend_pid()
      and backend_type = 'client backend'
      and ($1::text is null or application_name = $1::text)
"""


@attrs.frozen
class Running:
    """A worker under a load that does not end by itself."""

    load: Load
    worker: Worker
    client: Client
    figures: Figures

    async def note_recovery(self, what: str, patience: float = PATIENCE) -> None:
        with trio.fail_after(patience):
            self.figures.note(f"s to the first completed job, {what}", await self.load.wait_resumed())


@contextlib.asynccontextmanager
async def running(
    database: Database, url: str, figures: Figures, prefetched: int = 0
) -> AsyncIterator[Running]:
    """Run a worker under load; afterwards every job must have been completed, and none be locked."""
    load = Load()
    options = WorkerOptions(concurrency=4, poll_interval=0.5, local_queue=LocalQueueOptions(size=prefetched))
    client = Client(database, load.tasks)
    await client.migrate()
    async with open_database(url) as own, trio.open_nursery() as nursery:
        worker = Worker(own, load.tasks, options)
        await nursery.start(worker.run)
        nursery.start_soon(load.keep_adding, client)
        await load.wait_returned(50)
        yield Running(load, worker, client, figures)
        ended_at = trio.current_time()
        await load.finish(database)
        figures.note("s until all was done and recorded", trio.current_time() - ended_at)
        worker.stop()
    repeated = load.check()
    assert repeated <= load.uncertain, "a job ran again although its first run could be recorded"
    await check_nothing_locked(database)


@pytest.mark.parametrize("prefetched", [0, 20])
async def test_ended_sessions_cost_time_and_nothing_else(
    database_url: str, figures: Figures, notices: Notices, prefetched: int
) -> None:
    """Each session of the worker in turn, under load, and all of them at once."""
    ended: dict[str, int] = {}
    async with (
        open_database(database_url, DIRECT) as database,
        running(database, database_url, figures, prefetched) as run,
    ):
        purposes = {row["application_name"] for row in await database.fetch(SESSIONS)}
        assert {"trio_graphile claim", "trio_graphile outcomes"} <= purposes
        for purpose in [*sorted(purposes) * ROUNDS, None]:
            count = await database.fetch_value(END_SESSIONS, purpose)
            ended[purpose or "all"] = ended.get(purpose or "all", 0) + count
            await run.load.wait_resumed()
            await run.load.wait_returned(30)
        await run.note_recovery("all sessions ended")
        figures.note("jobs completed meanwhile", run.load.returned)
    figures.note("sessions ended", sum(ended.values()))


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    """Lend a server of the test's own, to be stopped and killed."""
    async with embedded_postgres(temporary_in=IN_MEMORY) as server:
        yield server


OUTAGES = [0.3, *(pytest.param(seconds, marks=pytest.mark.exhaustive) for seconds in (1.0, 10.0, 60.0))]
DOWN: dict[str, Callable[[PostgresServer], Awaitable[None]]] = {
    "stopped": PostgresServer.stop,
    "killed": PostgresServer.kill,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("down", DOWN)
async def test_a_server_that_was_down_is_found_again(
    server: PostgresServer, figures: Figures, down: str, outage: float
) -> None:
    async with (
        open_database(server.url, DIRECT) as database,
        running(database, server.url, figures, prefetched=10) as run,
    ):
        await DOWN[down](server)
        await trio.sleep(outage)  # how long the fault lasts, not a wait for anything
        await server.start()
        await run.note_recovery(f"after {outage} s")


@pytest.mark.parametrize("sessions", ["ended", "kept"])
async def test_a_server_that_is_read_only_is_waited_for(
    database_url: str, figures: Figures, notices: Notices, sessions: str
) -> None:
    """As after a failover whose old address still leads to what is now a standby."""
    async with (
        open_database(database_url, DIRECT) as database,
        running(database, database_url, figures) as run,
    ):
        name = await database.fetch_value("select current_database()")
        await database.execute(f'alter database "{name}" set default_transaction_read_only = on')
        await database.fetch_value(END_SESSIONS, None)
        await notices.wait_for_new("read-only")
        await notices.wait_for_new("read-only")
        await database.execute(f'alter database "{name}" reset default_transaction_read_only')
        if sessions == "ended":
            await database.fetch_value(END_SESSIONS, None)
        await run.note_recovery("writable again", patience=5.0)
