"""What a handler leaves with its context: checkpoints, progress and log records."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table, payloads
from tests.support.waiting import wait_until
from tests.support.workers import SOON, make_worker, running
from trio_graphile import (
    Client,
    Database,
    JobContext,
    LocalQueueOptions,
    PayloadInvalid,
    PermanentFailure,
    RetryAfter,
    Snooze,
    WorkerStatistics,
)

# --- checkpoints --------------------------------------------------------------------------------


async def test_a_job_that_is_given_back_goes_on_from_its_last_checkpoint(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    begun_at: list[int] = []

    @handlers.tasks.task("counting")
    async def counting(begin: int, context: JobContext) -> None:
        begun_at.append(begin)
        for number in range(begin, begin + 3):
            context.checkpoint(number)
        handlers.start(context)
        await handlers.release.wait()

    await client.add_job(counting, 1)
    async with running(make_worker(database, handlers.tasks, shutdown=SOON)) as run:
        await handlers.wait_started(1)
        assert await payloads(database) == ["1"]  # kept in memory so far
        assert (await run.stop()).returned == 1
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"], job["last_error"]) == (0, None, None)
    assert await payloads(database) == ["3"]

    handlers.release.set()
    assert (await make_worker(database, handlers.tasks).run_once()).completed == 1
    assert begun_at == [1, 3]
    assert await table.jobs() == []  # a checkpoint of a completed job is of no use


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ValueError("no such luck"), 1),
        (RetryAfter(1000), 1),
        (Snooze(1000), 0),
        (PermanentFailure("never"), 25),
    ],
)
async def test_a_checkpoint_of_a_thread_is_kept_whatever_it_raises(
    client: Client, handlers: Handlers, table: Table, error: Exception, attempts: int
) -> None:
    @handlers.tasks.task("counting")
    def counting(begin: int, context: JobContext) -> None:
        context.checkpoint(begin + 1)
        raise error

    await client.add_job(counting, 1)
    await make_worker(client.database, handlers.tasks).run_once()
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"]) == (attempts, None)
    assert await payloads(client.database) == ["2"]


async def test_a_checkpoint_outlives_a_timeout(
    database: Database, client: Client, handlers: Handlers
) -> None:
    @handlers.tasks.task("counting", timeout=0.05)
    async def counting(begin: int, context: JobContext) -> None:
        context.checkpoint(begin + 1)
        await trio.sleep_forever()

    await client.add_job(counting, 1)
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    assert await payloads(database) == ["2"]


@pytest.mark.parametrize("outcome", ["fail", "return"])
async def test_a_checkpoint_outlives_a_cancellation_on_request(
    database: Database, client: Client, handlers: Handlers, table: Table, outcome: str
) -> None:
    @handlers.tasks.task("counting")
    async def counting(begin: int, context: JobContext) -> None:
        context.checkpoint(begin + 1)
        handlers.start(context)
        await handlers.release.wait()

    job = await client.add_job(counting, 1)
    async with running(make_worker(database, handlers.tasks)):
        await handlers.wait_started(1)
        await client.cancel_jobs([job.id], outcome=outcome)  # type: ignore[arg-type]
        await table.wait_until("select payload::text = '2' from graphile_worker._private_jobs")
        handlers.release.set()  # for a second run


async def test_a_checkpoint_that_is_no_payload_of_the_task_is_refused_where_it_is_made(
    database: Database, client: Client, handlers: Handlers
) -> None:
    @handlers.tasks.task("counting")
    async def counting(begin: int, context: JobContext) -> None:
        context.checkpoint(begin + 1)
        with pytest.raises(PayloadInvalid, match="payload of task 'counting'"):
            context.checkpoint("three")
        raise ValueError("no such luck")

    await client.add_job(counting, 1)
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    assert await payloads(database) == ["2"]  # the last that was one


# --- progress and statistics --------------------------------------------------------------------


async def test_a_worker_says_what_it_runs_how_long_and_how_far_and_what_it_holds(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("reporting")
    async def reporting(context: JobContext) -> None:
        context.report("a tenth")
        context.report({"percent": 50})
        handlers.start(context)
        await handlers.release.wait()

    jobs = await client.add_raw_jobs([("reporting", None), ("held", None), ("quick", None), ("quick", None)])
    worker = make_worker(database, handlers.tasks, concurrency=2, local_queue=LocalQueueOptions(size=5))
    assert worker.statistics() == WorkerStatistics()
    async with running(worker):
        await handlers.wait_started(2)
        await table.wait_until("select count(locked_by) = 4 from graphile_worker._private_jobs")
        statistics = worker.statistics()
        handlers.release.set()
        await handlers.wait_ended(3)
    assert [run.job.id for run in statistics.running] == [job.id for job in jobs[:2]]
    assert [run.progress for run in statistics.running] == [{"percent": 50}, None]
    assert all(run.seconds >= 0 for run in statistics.running)
    assert (statistics.held, statistics.unrecorded) == (2, 0)
    assert worker.statistics() == WorkerStatistics()


async def test_a_worker_says_how_far_a_thread_is_and_how_much_is_not_written_yet(
    database: Database, client: Client, handlers: Handlers
) -> None:
    @handlers.tasks.task("reporting")
    def reporting(context: JobContext) -> None:
        context.report(0.5)
        context.run(handlers.release.wait)

    worker = make_worker(database, handlers.tasks, complete_delay=0.5)
    async with running(worker):
        await client.add_raw_job("quick")
        await handlers.wait_ended(1)
        assert (worker.statistics().running, worker.statistics().unrecorded) == ((), 1)
        await client.add_raw_job("reporting")
        await wait_until(lambda: [run.progress for run in worker.statistics().running] == [0.5])
        handlers.release.set()


# --- the logger ---------------------------------------------------------------------------------


async def test_the_records_of_a_handlers_logger_say_which_job_it_is(
    database: Database, client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    @handlers.tasks.task("talkative")
    async def talkative(context: JobContext) -> None:
        context.logger.info("half of %d is done", 10, extra={"shop": "ada's", "task": "mine"})
        context.logger.warning("nothing more to say")

    job = await client.add_raw_job("talkative", {"password": "hunter2"})
    await make_worker(database, handlers.tasks).run_once()
    first, second = [record for record in caplog.records if record.name == "trio_graphile.job"]
    assert first.getMessage() == "half of 10 is done"
    names = ("job_id", "task", "attempt")
    assert [getattr(first, name) for name in (*names, "shop")] == [job.id, "mine", 1, "ada's"]
    assert [getattr(second, name) for name in names] == [job.id, "talkative", 1]
    assert "hunter2" not in caplog.text
