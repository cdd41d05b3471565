"""What tasks and their handlers say about runs: timeouts, retries, signals and defaults."""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import attrs
import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.workers import make_worker
from trio_graphile import (
    Client,
    Database,
    Job,
    JobSpec,
    PermanentFailure,
    RetryAfter,
    Snooze,
    TaskRegistry,
)

TIMED_OUT = "TimeoutError: the handler took longer than its timeout of 0.05 s"


async def only_job(table: Table) -> dict[str, object]:
    [job] = await table.jobs()
    assert (job["locked_by"], job["locked_at"]) == (None, None)
    return job


# --- timeouts -----------------------------------------------------------------------------------


async def test_a_handler_that_takes_too_long_is_cancelled_and_has_failed(
    database: Database, client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[bool] = []

    @handlers.tasks.task("slow", timeout=0.05)
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(True)

    await client.add_raw_job("slow", None, JobSpec(queue_name="q"))
    report = await make_worker(database, handlers.tasks).run_once()
    assert (report.completed, report.failed, report.returned) == (0, 1, 0)
    assert cancelled == [True]
    job = await only_job(table)
    assert (job["attempts"], job["last_error"]) == (1, TIMED_OUT)
    assert job["delay"] == pytest.approx(math.e, abs=1)
    assert await table.locked_queues() == {}
    assert TIMED_OUT in caplog.text


async def test_a_handler_that_ends_well_although_its_time_is_over_has_ended_well(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("slow", timeout=0.05)
    async def slow() -> None:
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep_forever()

    await client.add_raw_job("slow")
    report = await make_worker(database, handlers.tasks).run_once()
    assert (report.completed, report.failed, report.returned) == (1, 0, 0)
    assert await table.jobs() == []


async def test_a_timeout_of_the_handlers_own_making_is_its_own_failure(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("slow", timeout=60)
    async def slow() -> None:
        with trio.fail_after(0.01):
            await trio.sleep_forever()

    await client.add_raw_job("slow")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    assert str((await only_job(table))["last_error"]).startswith("TooSlowError (tests.worker.test_control:")


# --- retries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        ([100, 200], [100, 200, 200]),
        (lambda attempt: attempt * 50, [50, 100, 150]),
    ],
)
async def test_a_failed_job_is_tried_again_when_its_task_says(
    client: Client,
    handlers: Handlers,
    table: Table,
    retry: Sequence[float] | Callable[[int], float],
    delays: list[float],
) -> None:
    @handlers.tasks.task("unlucky", retry=retry)
    async def unlucky() -> None:
        raise ValueError("no such luck")

    await client.add_raw_job("unlucky", None, JobSpec(max_attempts=3))
    for attempt, delay in enumerate(delays, 1):
        await make_worker(client.database, handlers.tasks, concurrency=1).run_once()
        job = await only_job(table)
        assert job["attempts"] == attempt
        assert job["delay"] == pytest.approx(delay, abs=1)
        await table.make_due()


@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda _: -1])
async def test_a_retry_policy_that_is_broken_leaves_the_delay_to_the_database(
    client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture, broken: Any
) -> None:
    @handlers.tasks.task("unlucky", retry=broken)
    async def unlucky() -> None:
        raise ValueError("no such luck")

    await client.add_raw_job("unlucky")
    assert (await make_worker(client.database, handlers.tasks).run_once()).failed == 1
    job = await only_job(table)
    assert str(job["last_error"]).startswith("ValueError: no such luck")
    assert job["delay"] == pytest.approx(math.e, abs=1)
    assert "the retry policy failed for attempt 1" in caplog.text


# --- signals ------------------------------------------------------------------------------------


Raising = Callable[[Exception], Awaitable[None]]


async def alone(error: Exception) -> None:
    raise error


async def in_two_children(error: Exception) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alone, error)
        nursery.start_soon(alone, error)


def add_raising(tasks: TaskRegistry, error: Exception, how: Raising = alone) -> None:
    """Add a task `raising`, which raises the error."""

    @tasks.task("raising", retry=[77])
    async def raising() -> None:
        await how(error)


alone_or_twice = pytest.mark.parametrize("how", [alone, in_two_children])


@alone_or_twice
async def test_a_permanent_failure_is_kept_with_its_error_and_never_tried_again(
    client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture, how: Raising
) -> None:
    add_raising(handlers.tasks, PermanentFailure("no such account"), how)
    await client.add_raw_job("raising", None, JobSpec(queue_name="q"))
    assert (await make_worker(client.database, handlers.tasks).run_once()).failed == 1
    job = await only_job(table)
    assert (job["attempts"], job["max_attempts"]) == (25, 25)
    assert re.match(r"PermanentFailure: no such account \(tests\.worker\.", str(job["last_error"]))
    assert await table.locked_queues() == {}
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert record.levelno == logging.ERROR

    await table.make_due()
    assert (await make_worker(client.database, handlers.tasks).run_once()).failed == 0


@alone_or_twice
async def test_a_job_that_snoozes_runs_later_as_if_it_had_not_run(
    client: Client, handlers: Handlers, table: Table, how: Raising
) -> None:
    add_raising(handlers.tasks, ValueError("first"))
    await client.add_raw_job("raising")
    await make_worker(client.database, handlers.tasks).run_once()
    await table.make_due()
    before = await only_job(table)

    again = Handlers()
    add_raising(again.tasks, Snooze(1000), how)
    report = await make_worker(client.database, again.tasks).run_once()
    assert (report.snoozed, report.failed, report.completed, report.returned) == (1, 0, 0, 0)
    after = await only_job(table)
    assert (after["attempts"], after["last_error"]) == (1, before["last_error"])
    assert after["delay"] == pytest.approx(1000, abs=5)


@alone_or_twice
async def test_a_handler_says_when_its_job_is_tried_again_whatever_its_task_says(
    client: Client, handlers: Handlers, table: Table, how: Raising
) -> None:
    add_raising(handlers.tasks, RetryAfter(1000, "the other side is busy"), how)
    await client.add_raw_job("raising")
    report = await make_worker(client.database, handlers.tasks).run_once()
    assert (report.failed, report.snoozed) == (1, 0)
    job = await only_job(table)
    assert job["attempts"] == 1
    assert str(job["last_error"]).startswith("RetryAfter: the other side is busy (tests.worker.")
    assert job["delay"] == pytest.approx(1000, abs=5)


@pytest.mark.parametrize("signal", [PermanentFailure("never"), Snooze(1000), RetryAfter(1000)])
async def test_a_signal_beside_another_error_is_an_ordinary_failure(
    client: Client, handlers: Handlers, table: Table, signal: Exception
) -> None:
    @handlers.tasks.task("torn")
    async def torn() -> None:
        raise ExceptionGroup("both", [signal, ValueError("no such luck")])

    await client.add_raw_job("torn")
    assert (await make_worker(client.database, handlers.tasks).run_once()).failed == 1
    job = await only_job(table)
    assert job["attempts"] == 1
    assert job["delay"] == pytest.approx(math.e, abs=1)


# --- defaults -----------------------------------------------------------------------------------


def spec_of(job: Job) -> tuple[str | None, int, int]:
    return job.queue_name, job.max_attempts, job.priority


async def test_jobs_are_added_as_their_task_wants_unless_their_specification_says_otherwise(
    database: Database, client: Client
) -> None:
    tasks = TaskRegistry()

    @tasks.batch_task("index", queue_name="index", max_attempts=3, priority=-5)
    async def index(numbers: list[int]) -> None: ...

    wanted, own = ("index", 3, -5), JobSpec(queue_name="own", max_attempts=1, priority=0)
    async with database.transaction() as connection:
        jobs = [
            await client.add_job(index, [1]),
            *await client.add_jobs([(index, [1])]),
            await client.add_batch_job(index, [1]),
            await client.using(connection).add_job(index, [1]),
        ]
        own_jobs = [
            await client.add_job(index, [1], own),
            *await client.add_jobs([(index, [1], own)]),
            await client.add_batch_job(index, [1], own),
            await client.using(connection).add_job(index, [1], own),
        ]
    assert [spec_of(job) for job in jobs] == [wanted] * 4
    assert [spec_of(job) for job in own_jobs] == [("own", 1, 0)] * 4
    raw = await client.add_raw_job("index", [1])
    assert spec_of(raw) == (None, 25, 0)  # who names a task only knows no task


# --- payloads and tasks that cannot be ----------------------------------------------------------


@attrs.frozen
class Resize:
    width: int


@pytest.mark.parametrize(("on_invalid_payload", "attempts"), [("retry", 1), ("fail", 25)])
async def test_a_payload_that_cannot_be_read_fails_for_good_if_its_task_wants_that(
    client: Client,
    handlers: Handlers,
    table: Table,
    on_invalid_payload: Literal["retry", "fail"],
    attempts: int,
) -> None:
    called: list[Resize] = []

    @handlers.tasks.task("resize", on_invalid_payload=on_invalid_payload)
    async def resize(payload: Resize) -> None:
        called.append(payload)

    await client.add_raw_job("resize", {"width": "wide"})
    assert (await make_worker(client.database, handlers.tasks).run_once()).failed == 1
    job = await only_job(table)
    assert job["attempts"] == attempts
    assert str(job["last_error"]).startswith("JobPayloadInvalid: payload of task 'resize': ")
    assert called == []


class ForgetfulRegistry(TaskRegistry):
    @property
    def identifiers(self) -> tuple[str, ...]:
        return (*super().identifiers, "forgotten")


async def test_a_task_that_is_not_there_is_a_failure_of_the_job(
    client: Client, handlers: Handlers, table: Table
) -> None:
    tasks = ForgetfulRegistry()
    tasks.include(handlers.tasks)
    await client.add_raw_jobs([("forgotten", None), ("quick", None)])
    report = await make_worker(client.database, tasks).run_once()
    assert (report.failed, report.completed) == (1, 1)
    job = await only_job(table)
    assert (job["attempts"], job["last_error"]) == (1, "UnknownTask: no task 'forgotten' is registered")
