"""Batch tasks: one job, many items, of which the failed ones alone are tried again."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from tests.support.handlers import Handlers
from tests.support.tables import Table, payloads
from tests.support.workers import make_worker, running
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    PermanentFailure,
    RetryAfter,
    ShutdownReport,
    Snooze,
)
from trio_graphile._model.outcomes import Failed

PRECISE = "1234567890123456789012.50"
"""A number that no float holds."""


def even_ones_fail(numbers: Sequence[int]) -> list[Exception | None]:
    return [ValueError("even") if number % 2 == 0 else None for number in numbers]


async def run_once(database: Database, handlers: Handlers, **options: object) -> ShutdownReport:
    return await make_worker(database, handlers.tasks, **options).run_once()


async def only_job(table: Table) -> dict[str, object]:
    [job] = await table.jobs()
    assert job["locked_by"] is None
    return job


# --- what a handler returns ---------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, [None, None], (None, None)])
async def test_a_batch_without_a_failed_item_is_done(
    client: Client, handlers: Handlers, table: Table, result: Sequence[None] | None
) -> None:
    seen: list[list[int]] = []

    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> Sequence[None] | None:
        seen.append(numbers)
        return result

    await client.add_batch_job(index, [1, 2])
    assert (await run_once(client.database, handlers)).completed == 1
    assert seen == [[1, 2]]
    assert await table.jobs() == []


@pytest.mark.parametrize("options", [{}, {"fail_delay": 0.05, "complete_delay": 0.05}])
async def test_the_items_that_failed_are_left_as_they_were_written_and_in_their_order(
    client: Client, handlers: Handlers, table: Table, options: dict[str, object]
) -> None:
    @handlers.tasks.batch_task("index")
    async def index(items: list[dict[str, Any]]) -> list[Exception | None]:
        return even_ones_fail([item["number"] for item in items])

    items = [
        '{"number": 1}',
        '{"text":"\\u00e9, ]",  "number": 2}',
        '{"number": 3}',
        f'{{"number":4, "price": {PRECISE}}}',
    ]
    await client.add_raw_job("index")
    await client.database.execute(
        "update graphile_worker._private_jobs set payload = $1::text::json", f"[ {' , '.join(items)} ]"
    )
    report = await run_once(client.database, handlers, **options)
    assert (report.failed, report.completed) == (1, 0)
    assert await payloads(client.database) == [f"[{items[1]},{items[3]}]"]
    job = await only_job(table)
    assert job["attempts"] == 1
    assert job["delay"] == pytest.approx(math.e, abs=1)
    assert job["last_error"] == "2 of 4 items failed: 1: ValueError: even; 3: ValueError: even"


async def test_failed_items_are_tried_until_none_is_left(
    client: Client, handlers: Handlers, table: Table
) -> None:
    seen: list[list[int]] = []

    @handlers.tasks.batch_task("index", retry=[0])
    async def index(numbers: list[int]) -> list[Exception | None]:
        seen.append(numbers)
        return [ValueError("not the last") if number != numbers[-1] else None for number in numbers]

    await client.add_batch_job(index, [1, 2, 3])
    report = await run_once(client.database, handlers)
    assert (report.failed, report.completed) == (2, 1)
    assert seen == [[1, 2, 3], [1, 2], [1]]
    assert await table.jobs() == []


async def test_failed_items_without_an_attempt_left_are_kept(
    client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> list[Exception | None]:
        return even_ones_fail(numbers)

    await client.add_batch_job(index, [1, 2], JobSpec(max_attempts=1))
    assert (await run_once(client.database, handlers)).failed == 1
    await table.make_due()
    assert (await run_once(client.database, handlers)).failed == 0
    job = await only_job(table)
    assert (job["attempts"], job["max_attempts"]) == (1, 1)
    assert await payloads(client.database) == ["[2]"]


@pytest.mark.parametrize(
    ("result", "mistake"),
    [
        ([None], "its handler returned 1 result for 2 items"),
        ([ValueError("even")] * 3, "its handler returned 3 results for 2 items"),
        ("no", "its handler returned str; expected None, or a list"),
        ([None, "bad"], "its handler returned str for item 1"),
    ],
)
async def test_a_result_that_cannot_be_one_fails_all_items_and_says_what_is_right(
    client: Client, handlers: Handlers, table: Table, result: Any, mistake: str
) -> None:
    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> Any:
        return result

    await client.add_batch_job(index, [1, 2])
    assert (await run_once(client.database, handlers)).failed == 1
    job = await only_job(table)
    assert job["attempts"] == 1
    assert f"TaskInvalid: task 'index': {mistake}" in str(job["last_error"])
    assert await payloads(client.database) == ["[1,2]"]


async def test_an_exception_fails_all_items(client: Client, handlers: Handlers, table: Table) -> None:
    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> None:
        raise ValueError("no such index")

    await client.add_batch_job(index, [1, 2])
    assert (await run_once(client.database, handlers)).failed == 1
    assert str((await only_job(table))["last_error"]).startswith("ValueError: no such index (tests.worker.")
    assert await payloads(client.database) == ["[1,2]"]


async def test_a_plain_function_handles_a_batch_in_a_thread(
    client: Client, handlers: Handlers, table: Table
) -> None:
    threads: list[str] = []

    @handlers.tasks.batch_task("index")
    def index(numbers: list[int], context: JobContext) -> list[Exception | None]:
        threads.append(threading.current_thread().name)
        context.report(len(numbers))
        return even_ones_fail(numbers)

    job = await client.add_batch_job(index, [1, 2, 3])
    assert (await run_once(client.database, handlers)).failed == 1
    assert threads == [f"job {job.id}"]
    assert str((await only_job(table))["last_error"]).startswith("1 of 3 items failed: 1: ValueError: even")
    assert await payloads(client.database) == ["[2]"]


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([PermanentFailure("gone"), PermanentFailure("gone, too")], (25, math.e)),
        ([RetryAfter(100), RetryAfter(200)], (1, 200)),
        ([Snooze(200), Snooze(100)], (0, 200)),
        ([PermanentFailure("gone"), ValueError("bad luck")], (1, math.e)),
    ],
)
async def test_a_signal_counts_if_all_items_that_failed_gave_it(
    client: Client, handlers: Handlers, table: Table, signals: list[Exception], expected: tuple[int, float]
) -> None:
    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> list[Exception | None]:
        return [None, *signals]

    await client.add_batch_job(index, [1, 2, 3])
    await run_once(client.database, handlers)
    job = await only_job(table)
    assert (job["attempts"], job["delay"]) == (expected[0], pytest.approx(expected[1], abs=1))
    assert await payloads(client.database) == ["[2,3]"]


# --- what a handler is given --------------------------------------------------------------------


@attrs.frozen
class Document:
    title: str


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"title": "a"}, "a batch needs a JSON array @ $"),
        ("hunter2", "a batch needs a JSON array @ $"),
        ([{"title": "a"}, {"title": 7}, {"name": "hunter2"}], "$[1].title"),
    ],
)
async def test_a_payload_that_is_no_batch_is_kept_and_its_handler_not_called(
    client: Client, handlers: Handlers, table: Table, payload: Any, reason: str
) -> None:
    called: list[list[Document]] = []

    @handlers.tasks.batch_task("index")
    async def index(documents: list[Document]) -> None:
        called.append(documents)

    await client.add_raw_job("index", payload)
    before = await payloads(client.database)
    assert (await run_once(client.database, handlers)).failed == 1
    job = await only_job(table)
    assert job["attempts"] == 1
    assert str(job["last_error"]).startswith("JobPayloadInvalid: payload of task 'index': ")
    assert reason in str(job["last_error"])
    assert "hunter2" not in str(job["last_error"])
    assert await payloads(client.database) == before
    assert called == []


async def test_an_empty_batch_that_somebody_else_added_is_handled(
    client: Client, handlers: Handlers, table: Table
) -> None:
    seen: list[list[int]] = []

    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> list[Exception | None]:
        seen.append(numbers)
        return even_ones_fail(numbers)

    await client.add_raw_job("index", [])
    assert (await run_once(client.database, handlers)).completed == 1
    assert seen == [[]]


# --- how batches come about ---------------------------------------------------------------------


async def test_batches_under_one_key_are_handled_together(client: Client, handlers: Handlers) -> None:
    seen: list[list[int]] = []

    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> None:
        seen.append(numbers)

    spec = JobSpec(job_key="k")
    first = await client.add_batch_job(index, [1, 2], spec)
    second = await client.add_batch_job(index, [3], spec)
    assert (second.id, second.payload) == (first.id, [1, 2, 3])
    assert (await run_once(client.database, handlers)).completed == 1
    assert seen == [[1, 2, 3]]


async def test_what_comes_for_a_batch_that_runs_is_a_batch_of_its_own(
    client: Client, handlers: Handlers, table: Table
) -> None:
    seen: list[list[int]] = []

    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int], context: JobContext) -> list[Exception | None]:
        seen.append(numbers)
        handlers.start(context)
        await handlers.release.wait()
        return even_ones_fail(numbers)

    spec = JobSpec(job_key="k")
    first = await client.add_batch_job(index, [1, 2], spec)
    async with running(make_worker(client.database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        second = await client.add_batch_job(index, [3, 5], spec)
        assert (second.id != first.id, second.payload) == (True, [3, 5])
        await handlers.wait_started(2)
        handlers.release.set()
        await table.wait_until("select count(*) = 1 from graphile_worker._private_jobs")
        report = await run.stop()
    assert seen == [[1, 2], [3, 5]]
    assert (report.completed, report.failed) == (1, 1)
    job = await only_job(table)  # detached: it is not tried again, and says what it did not do
    assert (job["id"], job["key"], job["attempts"]) == (first.id, None, 25)
    assert await payloads(client.database) == ["[2]"]


async def test_a_batch_that_another_job_adds_is_one_job(client: Client, handlers: Handlers) -> None:
    seen: list[list[int]] = []

    @handlers.tasks.batch_task("index")
    async def index(numbers: list[int]) -> None:
        seen.append(numbers)

    @handlers.tasks.task("parent")
    async def parent(context: JobContext) -> None:
        await context.client.add_batch_job(index, range(3))

    await client.add_raw_job("parent")
    assert (await run_once(client.database, handlers)).completed == 2
    assert seen == [[0, 1, 2]]


async def test_nothing_that_is_said_about_a_failed_batch_shows_its_items(
    client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="trio_graphile")

    @handlers.tasks.batch_task("index")
    async def index(documents: list[Document]) -> list[Exception | None]:
        return [None, ValueError("no room")]

    await client.add_batch_job(index, [Document("hunter1"), Document("hunter2")])
    assert (await run_once(client.database, handlers)).failed == 1
    assert await payloads(client.database) == ['[{"title":"hunter2"}]']
    assert re.search(r"job \d+ \(index\) failed, attempt 1 of 25: 1 of 2 items failed", caplog.text)
    assert "hunter" not in caplog.text
    assert "hunter" not in str((await only_job(table))["last_error"])


async def test_a_failure_of_items_can_be_printed_without_showing_them(client: Client) -> None:
    job = await client.add_raw_job("index", ["hunter1", "hunter2"])
    failure = Failed(job, "1 of 2 items failed: 1: ValueError: no room", payload_json='["hunter2"]')
    assert "hunter" not in repr(failure)
