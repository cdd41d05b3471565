"""A bound on how many jobs of a task run at once in a worker."""

from __future__ import annotations

import attrs
import pytest

from tests.database.sessions import wait_until_somebody_waits
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.workers import make_worker, running
from trio_graphile import Client, Database, JobContext, JobSpec, LocalQueueOptions, Snooze

TOO_LATE = 30.0
"""A poll interval that is longer than a test waits for anything."""

with_and_without_a_local_queue = pytest.mark.parametrize("size", [0, 20])


@attrs.define(eq=False)
class Bounded:
    """How many jobs of a task run, and the most that ran at once."""

    running: int = 0
    most: int = 0


def add_bounded(handlers: Handlers, identifier: str, concurrency: int) -> Bounded:
    """Add a task whose jobs are held until the handlers are released."""
    bounded = Bounded()

    @handlers.tasks.task(identifier, concurrency=concurrency)
    async def handle(context: JobContext) -> None:
        bounded.running += 1
        bounded.most = max(bounded.most, bounded.running)
        handlers.start(context)
        await handlers.release.wait()
        bounded.running -= 1
        handlers.end(context)

    return bounded


async def wait_for_rows(table: Table, count: int) -> None:
    await table.wait_until("select count(*) = $1::integer from graphile_worker._private_jobs", count)


@with_and_without_a_local_queue
async def test_no_more_jobs_of_a_task_are_claimed_than_may_run_and_others_run_meanwhile(
    database: Database, client: Client, handlers: Handlers, table: Table, size: int
) -> None:
    bounded = add_bounded(handlers, "bounded", 2)
    await client.add_raw_jobs([("bounded", None, JobSpec(priority=-1))] * 6 + [("quick", None)] * 20)
    worker = make_worker(
        database,
        handlers.tasks,
        concurrency=10,
        poll_interval=TOO_LATE,
        local_queue=LocalQueueOptions(size=size),
    )
    async with running(worker) as run:
        await handlers.wait_ended(20)
        await wait_for_rows(table, 6)
        assert sum(job["locked_by"] is not None for job in await table.jobs()) == bounded.running == 2
        handlers.release.set()
        await handlers.wait_ended(26)
        report = await run.stop()
    assert report.completed == 26
    assert bounded.most == 2


@with_and_without_a_local_queue
async def test_a_drain_keeps_the_bounds_and_leaves_nothing(
    database: Database, client: Client, handlers: Handlers, table: Table, size: int
) -> None:
    handlers.release.set()
    bounded = add_bounded(handlers, "bounded", 2)
    await client.add_raw_jobs([("bounded", None), ("quick", None)] * 10)
    options = LocalQueueOptions(size=size)
    report = await make_worker(database, handlers.tasks, concurrency=10, local_queue=options).run_once()
    assert report.completed == 20
    assert 1 <= bounded.most <= 2
    assert await table.jobs() == []


@with_and_without_a_local_queue
async def test_tasks_with_different_bounds_and_one_without_all_make_progress(
    database: Database, client: Client, handlers: Handlers, table: Table, size: int
) -> None:
    one, two = add_bounded(handlers, "one", 1), add_bounded(handlers, "two", 2)
    await client.add_raw_jobs([("one", None), ("two", None), ("quick", None)] * 10)
    worker = make_worker(
        database,
        handlers.tasks,
        concurrency=4,
        poll_interval=TOO_LATE,
        local_queue=LocalQueueOptions(size=size),
    )
    async with running(worker):
        await handlers.wait_started(13)
        assert (one.running, two.running) == (1, 2)
        await handlers.wait_ended(10)  # through the one slot that is left
        handlers.release.set()
        await handlers.wait_ended(30)
        await wait_for_rows(table, 0)
    assert (one.most, two.most) == (1, 2)


@pytest.mark.parametrize("error", [ValueError("no such luck"), Snooze(1000)])
@with_and_without_a_local_queue
async def test_the_next_job_of_a_task_starts_when_one_has_not_succeeded(
    client: Client, handlers: Handlers, size: int, error: Exception
) -> None:
    @handlers.tasks.task("bounded", concurrency=1)
    async def bounded(context: JobContext) -> None:
        handlers.start(context)
        raise error

    await client.add_raw_jobs([("bounded", None)] * 3)
    options = LocalQueueOptions(size=size)
    worker = make_worker(client.database, handlers.tasks, poll_interval=TOO_LATE, local_queue=options)
    async with running(worker):
        await handlers.wait_started(3)


@with_and_without_a_local_queue
async def test_the_next_job_of_a_task_starts_when_one_was_given_back(
    client: Client, handlers: Handlers, size: int
) -> None:
    add_bounded(handlers, "bounded", 1)
    await client.add_raw_jobs([("bounded", None)] * 2)
    options = LocalQueueOptions(size=size)
    worker = make_worker(client.database, handlers.tasks, poll_interval=TOO_LATE, local_queue=options)
    async with running(worker):
        await handlers.wait_started(1)
        await client.cancel_jobs([handlers.started[0].id], outcome="return")
        await handlers.wait_started(2)
        handlers.release.set()


async def test_a_job_that_ends_while_a_claim_is_under_way_makes_room_for_the_next(
    client: Client, handlers: Handlers, table: Table
) -> None:
    add_bounded(handlers, "bounded", 1)
    await client.add_raw_jobs([("bounded", None)] * 2)
    database = client.database
    async with running(make_worker(database, handlers.tasks, poll_interval=TOO_LATE)):
        await handlers.wait_started(1)
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_tasks")  # holds up claims alone
            await database.execute("select pg_notify('jobs:insert', '')")
            await wait_until_somebody_waits(database)
            handlers.release.set()
            await wait_for_rows(table, 1)
        await handlers.wait_ended(2)
