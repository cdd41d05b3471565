"""A worker that is told to end while it starts: it ends at once, and nothing of it is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.database.sessions import wait_until_nobody_waits, wait_until_somebody_waits
from tests.faults.network import open_proxy
from tests.support.handlers import Handlers
from tests.support.waiting import PATIENCE
from tests.support.workers import NEVER, make_worker, running
from trio_graphile import (
    Client,
    Database,
    ShutdownOptions,
    ShutdownReport,
    StopCause,
    TaskRegistry,
    Worker,
    WorkerOptions,
    WorkerStatistics,
    open_database,
    parse_crontab,
)
from trio_graphile.testing._points import ActAt

GENEROUS = ShutdownOptions(grace_period=300, flush_timeout=20)
"""Nothing runs yet, so nobody has to be given that time."""
ENDS = {"stop": StopCause.STOPPED, "cancel": StopCause.CANCELLED}


@asynccontextmanager
async def locked(database: Database, table: str) -> AsyncIterator[None]:
    """Lock a table, as a migration does, or VACUUM FULL."""
    async with database.transaction() as connection:
        await connection.execute(f"lock table graphile_worker.{table} in access exclusive mode")
        yield


async def end(worker: Worker, how: str) -> None:
    getattr(worker, how)()
    with trio.fail_after(PATIENCE):
        await worker.wait_ended()


async def traces(database: Database) -> list[str]:
    """Return what names a worker: its registration and its locks."""
    rows = await database.fetch("""
        select 'registered' as what from graphile_worker._private_workers
        union all
        select 'job' from graphile_worker._private_jobs where locked_at is not null
        union all
        select 'queue' from graphile_worker._private_job_queues where locked_at is not null
    """)
    return [row["what"] for row in rows]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("table", ["migrations", "_private_tasks"])
async def test_an_end_while_the_start_waits_for_a_lock(
    table: str, how: str, database: Database, handlers: Handlers
) -> None:
    """`nursery.start` returns, `run` reports why it ended, and no statement waits on the server any more."""
    worker, reports = make_worker(database, handlers.tasks, shutdown=GENEROUS), list[ShutdownReport]()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        reports.append(await worker.run(task_status=task_status))

    async with locked(database, table), trio.open_nursery() as nursery:
        nursery.start_soon(nursery.start, run)
        await wait_until_somebody_waits(database)
        await end(worker, how)
        await wait_until_nobody_waits(database)
    assert [report.cause for report in reports] == [ENDS[how]]
    assert worker.statistics() == WorkerStatistics()
    assert await traces(database) == []


@pytest.mark.parametrize("how", ENDS)
async def test_an_end_while_a_drain_waits_for_a_lock(
    how: str, database: Database, client: Client, handlers: Handlers
) -> None:
    await client.add_raw_job("quick")
    worker, reports = make_worker(database, handlers.tasks, shutdown=GENEROUS), list[ShutdownReport]()

    async def drain() -> None:
        reports.append(await worker.run_once())

    async with locked(database, "_private_job_queues"), trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        await wait_until_somebody_waits(database)
        await end(worker, how)
    assert [(report.cause, report.completed) for report in reports] == [(ENDS[how], 0)]
    assert await traces(database) == []


@pytest.mark.parametrize("how", ["stop", "cancel", "cancelled from outside"])
async def test_an_end_in_the_middle_of_a_migration_undoes_it(
    how: str, empty_database_url: str, handlers: Handlers
) -> None:
    async with open_database(empty_database_url) as database:
        worker = make_worker(database, handlers.tasks, shutdown=GENEROUS)
        async with database.transaction() as connection, trio.open_nursery() as nursery:
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended('trio_graphile graphile_worker', 0))"
            )
            nursery.start_soon(worker.run)
            await wait_until_somebody_waits(database)
            if how in ENDS:
                await end(worker, how)
            else:
                nursery.cancel_scope.cancel()
        assert await database.fetch_value("select to_regnamespace('graphile_worker') is null")
        async with running(make_worker(database, handlers.tasks)) as again:
            assert (await again.stop()).cause is StopCause.STOPPED


@pytest.mark.parametrize("how", ENDS)
async def test_an_end_while_no_session_can_be_opened(how: str, database_url: str, handlers: Handlers) -> None:
    async with open_proxy(database_url) as proxy, open_database(proxy.url) as through:
        worker = make_worker(through, handlers.tasks, shutdown=GENEROUS)
        proxy.swallow()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await proxy.holding.wait()
            began = trio.current_time()
            await end(worker, how)
            assert trio.current_time() - began < 4  # `connect_timeout` is five seconds


@pytest.mark.parametrize(("how", "came_of_it"), [("stop", (1, 0)), ("cancel", (0, 1))])
async def test_an_end_while_the_crontab_waits_for_a_lock(
    how: str, came_of_it: tuple[int, int], database: Database, client: Client, handlers: Handlers
) -> None:
    """The worker takes jobs by then: after a stop what runs may finish, after a cancel it is given back."""
    await client.add_raw_job("held")
    options = WorkerOptions(concurrency=4, poll_interval=NEVER, shutdown=GENEROUS)
    worker = Worker(database, handlers.tasks, options, crontab=parse_crontab("0 0 1 1 * quick"))
    reports: list[ShutdownReport] = []

    async def run() -> None:
        reports.append(await worker.run())

    async with locked(database, "_private_known_crontabs"), trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await handlers.wait_started(1)
        await wait_until_somebody_waits(database)
        getattr(worker, how)()
        if how == "stop":
            handlers.release.set()
        with trio.fail_after(PATIENCE):
            await worker.wait_ended()
    assert [(report.completed, report.returned) for report in reports] == [came_of_it]
    assert await traces(database) == []


@pytest.mark.parametrize("how", ENDS)
async def test_an_end_at_any_point_of_the_start_leaves_nothing(how: str, database: Database) -> None:
    """The end comes before a step of some Trio task, each time before a later one, until it came too late."""
    point, has_started = 1, False
    while not has_started:
        worker = make_worker(database, TaskRegistry(), shutdown=GENEROUS)
        ending = ActAt(point, getattr(worker, how))
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                with ending.installed():
                    await nursery.start(worker.run)
                    has_started = ending.count < point
                worker.stop()
        assert await traces(database) == []
        point += 7
    assert point > 100
