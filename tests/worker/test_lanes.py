"""The lanes `async` and `thread`: where a handler runs, and how a thread is told to stop."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from typing import Any, Literal

import attrs
import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.notices import noticing
from tests.support.tables import Table
from tests.support.workers import SOON, heard, make_worker, running
from trio_graphile import (
    Client,
    Database,
    Job,
    JobContext,
    ShutdownOptions,
    TaskInvalid,
    TaskRegistry,
    Worker,
    current_job,
)

RETURNED = {"attempts": 0, "locked_by": None, "last_error": None}
TIMED_OUT = "TimeoutError: the handler took longer than its timeout of 0.05 s"

Waiting = Callable[[JobContext], None]


def ask_again_and_again(context: JobContext) -> None:
    while True:
        trio.from_thread.check_cancelled()
        threading.Event().wait(0.01)


def wait_in_the_event_loop(context: JobContext) -> None:
    context.run(trio.sleep_forever)


both_ways_of_waiting = pytest.mark.parametrize("wait", [ask_again_and_again, wait_in_the_event_loop])
both_ways_to_end = pytest.mark.parametrize("end", [Worker.stop, Worker.cancel])


@attrs.define(eq=False)
class Thread:
    """What a test sees of a handler in a thread."""

    started: threading.Event = attrs.field(factory=threading.Event)
    told: threading.Event = attrs.field(factory=threading.Event)
    ended: threading.Event = attrs.field(factory=threading.Event)
    gate: threading.Lock = attrs.field(factory=threading.Lock)
    runs: int = 0


def add_endless(tasks: TaskRegistry, wait: Waiting, *, timeout: float | None = None) -> Thread:
    """Add a task `endless`, which goes on until it is told to stop."""
    thread = Thread()

    @tasks.task("endless", timeout=timeout)
    def endless(context: JobContext) -> None:
        thread.started.set()
        try:
            wait(context)
        except trio.Cancelled:
            thread.told.set()
            raise

    return thread


LastWord = Literal["returns", "raises"]


def add_late(tasks: TaskRegistry, last_word: LastWord, *, timeout: float | None = None) -> Thread:
    """Add a task `late`, which has a last word when it is told to stop."""
    thread = Thread()

    @tasks.task("late", timeout=timeout)
    def late(context: JobContext) -> None:
        thread.started.set()
        with contextlib.suppress(trio.Cancelled):
            ask_again_and_again(context)
        if last_word == "raises":
            raise ValueError("no such luck")

    return thread


def add_deaf(tasks: TaskRegistry, *, timeout: float | None = None) -> Thread:
    """Add a task `deaf`, which waits for its gate and for nothing else."""
    thread = Thread()
    thread.gate.acquire()

    @tasks.task("deaf", timeout=timeout)
    def deaf() -> None:
        thread.runs += 1
        thread.started.set()
        wait_for_gate(thread)
        thread.ended.set()

    return thread


def wait_for_gate(thread: Thread) -> None:
    assert thread.gate.acquire(timeout=20)


def fate(job: dict[str, object]) -> dict[str, object]:
    return {name: job[name] for name in RETURNED}


# --- where handlers run -------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_of_its_own_with_payload_and_context(
    database: Database, client: Client, handlers: Handlers
) -> None:
    found: list[object] = []

    @handlers.tasks.task("plain")
    def plain(payload: int, context: JobContext) -> None:
        thread = threading.current_thread()
        found.append((payload, context.job.id, context.worker_id, thread.name))
        found.append(thread is threading.main_thread())

    job = await client.add_job(plain, 7)
    worker = make_worker(database, handlers.tasks)
    assert (await worker.run_once()).completed == 1
    assert found == [(7, job.id, worker.worker_id, f"job {job.id}"), False]


async def test_the_current_job_is_that_of_the_handler_and_outside_there_is_none(
    database: Database, client: Client, handlers: Handlers
) -> None:
    found: dict[str, Job | None] = {}

    async def note(where: str) -> None:
        found[where] = current_job()

    @handlers.tasks.task("async")
    async def in_the_event_loop() -> None:
        await note("async")
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112  # it is the child that is asked
            nursery.start_soon(note, "child")

    @handlers.tasks.task("thread")
    def in_a_thread(context: JobContext) -> None:
        found["thread"] = current_job()
        context.run(note, "from the thread")

    jobs = [await client.add_raw_job(identifier) for identifier in ("async", "thread")]
    await note("before")
    await make_worker(database, handlers.tasks).run_once()
    await note("after")
    ids = {where: job and job.id for where, job in found.items()}
    assert ids == {
        "before": None,
        "async": jobs[0].id,
        "child": jobs[0].id,
        "thread": jobs[1].id,
        "from the thread": jobs[1].id,
        "after": None,
    }


async def test_a_thread_adds_jobs_and_hears_what_they_are(
    database: Database, client: Client, handlers: Handlers
) -> None:
    added: list[Job] = []

    @handlers.tasks.task("child")
    async def child(payload: int, context: JobContext) -> None:
        handlers.end(context)

    @handlers.tasks.task("parent")
    def parent(context: JobContext) -> None:
        added.append(context.run(context.client.add_job, child, 7))

    await client.add_raw_job("parent")
    assert (await make_worker(database, handlers.tasks).run_once()).completed == 2
    assert [job.id for job in handlers.ended] == [job.id for job in added]
    assert handlers.ended[0].payload == 7


async def test_what_an_async_function_raises_reaches_the_thread_that_called_it(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    async def fail(text: str) -> None:
        raise LookupError(text)

    @handlers.tasks.task("parent")
    def parent(context: JobContext) -> None:
        with pytest.raises(LookupError, match="first"):
            context.run(fail, "first")
        context.run(fail, "second")

    await client.add_raw_job("parent")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [job] = await table.jobs()
    assert str(job["last_error"]).startswith("LookupError: second")


async def test_more_threads_than_trio_allows_by_itself_run_at_once_and_leave_its_own_to_handlers(
    database: Database, client: Client, handlers: Handlers
) -> None:
    count = int(trio.to_thread.current_default_thread_limiter().total_tokens) + 5
    together = threading.Barrier(count)
    borrowed: list[int] = []

    async def look() -> None:
        borrowed.append(trio.to_thread.current_default_thread_limiter().borrowed_tokens)

    @handlers.tasks.task("sociable")
    def sociable(context: JobContext) -> None:
        together.wait(20)
        context.run(look)

    await client.add_raw_jobs([("sociable", None)] * count)
    report = await make_worker(database, handlers.tasks, concurrency=count).run_once()
    assert report.completed == count
    assert borrowed == [0] * count


# --- threads that are told to stop --------------------------------------------------------------


@both_ways_of_waiting
async def test_a_thread_is_told_of_its_timeout_and_its_job_has_failed(
    database: Database, client: Client, handlers: Handlers, table: Table, wait: Waiting
) -> None:
    thread = add_endless(handlers.tasks, wait, timeout=0.05)
    await client.add_raw_job("endless")
    report = await make_worker(database, handlers.tasks, shutdown=SOON).run_once()
    assert (report.failed, report.returned) == (1, 0)
    assert thread.told.is_set()
    [job] = await table.jobs()
    assert fate(job) == {"attempts": 1, "locked_by": None, "last_error": TIMED_OUT}


@both_ways_of_waiting
@both_ways_to_end
async def test_a_thread_is_told_of_the_end_of_its_worker_and_its_job_keeps_its_attempt(
    client: Client, handlers: Handlers, table: Table, wait: Waiting, end: Callable[[Worker], None]
) -> None:
    thread = add_endless(handlers.tasks, wait)
    await client.add_raw_job("endless")
    async with running(make_worker(client.database, handlers.tasks, shutdown=SOON)) as run:
        await heard(thread.started)
        end(run.worker)
        report = await run.wait()
    assert (report.completed, report.failed, report.returned, report.abandoned) == (0, 0, 1, ())
    assert thread.told.is_set()
    assert [fate(job) for job in await table.jobs()] == [RETURNED]


@both_ways_of_waiting
async def test_a_thread_is_told_of_a_cancellation_around_its_worker(
    database: Database, client: Client, handlers: Handlers, table: Table, wait: Waiting
) -> None:
    thread = add_endless(handlers.tasks, wait)
    await client.add_raw_job("endless")
    async with trio.open_nursery() as nursery:
        await nursery.start(make_worker(database, handlers.tasks, shutdown=SOON).run)
        await heard(thread.started)
        nursery.cancel_scope.cancel()
    assert thread.told.is_set()
    assert [fate(job) for job in await table.jobs()] == [RETURNED]


@pytest.mark.parametrize("last_word", ["returns", "raises"])
@both_ways_to_end
async def test_the_last_word_of_a_thread_that_was_told_of_the_end_counts(
    client: Client, handlers: Handlers, table: Table, last_word: LastWord, end: Callable[[Worker], None]
) -> None:
    thread = add_late(handlers.tasks, last_word)
    await client.add_raw_job("late")
    async with running(make_worker(client.database, handlers.tasks, shutdown=SOON)) as run:
        await heard(thread.started)
        end(run.worker)
        report = await run.wait()
    failed = last_word == "raises"
    assert (report.completed, report.failed, report.returned) == (not failed, failed, 0)
    errors = [(job["attempts"], str(job["last_error"])[:24]) for job in await table.jobs()]
    assert errors == [(1, "ValueError: no such luck")] * failed


@pytest.mark.parametrize("last_word", ["returns", "raises"])
async def test_the_last_word_of_a_thread_that_was_told_of_its_timeout_counts(
    database: Database, client: Client, handlers: Handlers, table: Table, last_word: LastWord
) -> None:
    add_late(handlers.tasks, last_word, timeout=0.05)
    await client.add_raw_job("late")
    await make_worker(database, handlers.tasks, shutdown=SOON).run_once()
    errors = [str(job["last_error"])[:24] for job in await table.jobs()]
    assert errors == ["ValueError: no such luck"] * (last_word == "raises")


async def test_a_thread_that_ignores_its_timeout_keeps_its_slot_and_its_job_until_it_ends(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    thread = add_deaf(handlers.tasks, timeout=0.05)
    was_over: list[bool] = []

    @handlers.tasks.task("next")
    async def following(context: JobContext) -> None:
        was_over.append(thread.ended.is_set())
        handlers.end(context)

    job = await client.add_raw_job("deaf")
    await client.add_raw_job("next")
    shutdown = ShutdownOptions(flush_timeout=1.0)
    worker = make_worker(database, handlers.tasks, concurrency=1, shutdown=shutdown)
    with noticing() as notices:
        async with running(worker) as run:
            await notices.wait_for(f"job {job.id} (deaf) was told to stop and still runs")
            rows = [(row["attempts"], row["locked_by"]) for row in await table.jobs()]
            assert rows == [(1, worker.worker_id), (0, None)]
            thread.gate.release()
            await handlers.wait_ended(1)
            report = await run.stop()
    assert (thread.runs, was_over) == (1, [True])
    assert report.completed == 2  # it ended well, if late


@both_ways_to_end
async def test_a_thread_that_ignores_the_end_is_named_and_its_job_given_back(
    client: Client, handlers: Handlers, table: Table, end: Callable[[Worker], None]
) -> None:
    thread = add_deaf(handlers.tasks)
    job = await client.add_raw_job("deaf")
    shutdown = ShutdownOptions(grace_period=0.02, flush_timeout=2.0)
    async with running(make_worker(client.database, handlers.tasks, shutdown=shutdown)) as run:
        await heard(thread.started)
        end(run.worker)
        report = await run.wait()  # although the thread goes on
    assert report.returned == 1
    [found] = report.abandoned
    assert (found.job_id, found.task_identifier, found.thread) == (job.id, "deaf", f"job {job.id}")
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+, in wait_for_gate", found.place)
    assert [fate(row) for row in await table.jobs()] == [RETURNED]
    assert not thread.ended.is_set()
    thread.gate.release()
    await heard(thread.ended)


# --- what cannot be -----------------------------------------------------------------------------


def with_context(payload: int, context: JobContext) -> None: ...
async def asynchronous() -> None: ...
def plain() -> None: ...


@pytest.mark.parametrize(
    ("handler", "lane", "reason"),
    [
        (with_context, "process", "a process cannot be lent a context"),
        (lambda: None, "process", "define it at the top level of a module"),
        (asynchronous, "process", "the lane 'process' needs a plain function, not an async one"),
        (asynchronous, "thread", "the lane 'thread' needs a plain function, not an async one"),
        (plain, "async", "the lane 'async' needs an async function, not a plain one"),
    ],
)
def test_a_lane_that_does_not_suit_a_function_is_refused(
    handler: Any, lane: Literal["async", "thread", "process"], reason: str
) -> None:
    tasks = TaskRegistry()
    with pytest.raises(TaskInvalid, match=re.escape(reason)):
        tasks.task("t", lane=lane)(handler)
    assert len(tasks) == 0
