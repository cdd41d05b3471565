"""`run_once`: drains what is due and what that adds, then says what it did."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile._model.options import Flags

FAILED = "ValueError: no such luck (tests.support.handlers:"


@pytest.fixture
def worker(database: Database, handlers: Handlers) -> Worker:
    return Worker(database, handlers.tasks, WorkerOptions(concurrency=10))


async def test_all_due_jobs_are_run_and_leave_no_rows(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("quick", None)] * 5)
    report = await worker.run_once()
    assert (report.completed, report.failed, report.returned, report.lost) == (5, 0, 0, 0)
    assert [job.task_identifier for job in handlers.ended] == ["quick"] * 5
    assert await table.jobs() == []


async def test_an_empty_queue_is_nothing_to_do(worker: Worker) -> None:
    report = await worker.run_once()
    assert (report.completed, report.failed, report.returned) == (0, 0, 0)


async def test_a_running_job_and_its_queue_are_locked_until_it_is_done(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("held", None, JobSpec(queue_name="q"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run_once)
        await handlers.wait_started(1)
        [job] = await table.jobs()
        assert (job["attempts"], job["locked_by"]) == (1, worker.worker_id)
        assert await table.locked_queues() == {"q": worker.worker_id}
        handlers.release.set()
    assert await table.jobs() == []
    assert await table.locked_queues() == {}


async def test_jobs_of_different_queues_run_together(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None, JobSpec(queue_name=f"q{n}")) for n in range(5)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run_once)
        await handlers.wait_started(5)
        assert len(await table.locked_queues()) == 5
        handlers.release.set()


async def test_jobs_of_one_queue_run_one_after_the_other_in_the_whole_fleet(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    spec = JobSpec(queue_name="q")
    added = await client.add_raw_jobs([("quick", None, spec)] * 5)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            worker = Worker(database, handlers.tasks, WorkerOptions(concurrency=3))
            nursery.start_soon(worker.run_once)
    assert [job.id for job in handlers.ended] == [job.id for job in added]
    assert handlers.most_at_once == 1
    assert await table.jobs() == []


async def test_a_job_that_a_job_adds_is_run_too(worker: Worker, client: Client, handlers: Handlers) -> None:
    @handlers.tasks.task("parent")
    async def parent(context: JobContext) -> None:
        await context.client.add_raw_job("quick")

    await client.add_raw_job("parent", None, JobSpec(queue_name="q"))
    report = await worker.run_once()
    assert report.completed == 2
    assert len(handlers.ended) == 1


async def test_a_failure_is_recorded_and_waits_for_its_time(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("failing", None, JobSpec(queue_name="q"))
    assert (await worker.run_once()).failed == 1
    [job] = await table.jobs()
    assert (job["attempts"], job["max_attempts"]) == (1, 25)
    assert str(job["last_error"]).startswith(FAILED)
    assert job["delay"] == pytest.approx(math.e, abs=1)
    assert (job["locked_by"], await table.locked_queues()) == (None, {})

    assert (await worker.run_once()).failed == 0  # not due yet
    await table.make_due()
    assert (await worker.run_once()).failed == 1
    [job] = await table.jobs()
    assert job["attempts"] == 2
    assert job["delay"] == pytest.approx(math.exp(2), abs=1)
    assert str(handlers.started[1].last_error).startswith(FAILED)


async def test_a_job_is_tried_as_often_as_it_may_be_and_then_kept(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("failing", None, JobSpec(max_attempts=3))
    for _ in range(4):
        await worker.run_once()
        await table.make_due()
    [job] = await table.jobs()
    assert (job["attempts"], job["max_attempts"]) == (3, 3)
    assert len(handlers.started) == 3


async def test_a_job_of_the_future_waits_for_its_time(
    worker: Worker, client: Client, handlers: Handlers, database: Database, table: Table
) -> None:
    in_an_hour = await database.fetch_value("select now() + interval '1 hour'")
    await client.add_raw_job("quick", None, JobSpec(run_at=in_an_hour))
    for _ in range(2):
        await worker.run_once()
    assert handlers.started == []
    await table.make_due()
    assert (await worker.run_once()).completed == 1


async def test_a_keyed_job_added_again_while_it_runs_runs_again(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    spec = JobSpec(job_key="k")
    first = await client.add_raw_job("held", 1, spec)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run_once)
        await handlers.wait_started(1)
        second = await client.add_raw_job("held", 2, spec)
        assert second.id != first.id
        await handlers.wait_started(2)
        handlers.release.set()
    assert [job.payload for job in handlers.started] == [1, 2]
    assert await table.jobs() == []


async def test_a_keyed_job_pending_retry_that_is_added_again_starts_over(
    worker: Worker, client: Client, table: Table
) -> None:
    job = await client.add_raw_job("failing", None, JobSpec(job_key="k"))
    await worker.run_once()
    again = await client.add_raw_job("quick", None, JobSpec(job_key="k"))
    assert (again.id, again.attempts, again.last_error, again.revision) == (job.id, 0, None, 1)
    assert (await worker.run_once()).completed == 1
    assert await table.jobs() == []


async def test_a_completed_job_frees_its_key(worker: Worker, client: Client) -> None:
    first = await client.add_raw_job("quick", None, JobSpec(job_key="k"))
    await worker.run_once()
    second = await client.add_raw_job("quick", None, JobSpec(job_key="k"))
    assert (second.id != first.id, second.revision) == (True, 0)


async def test_jobs_start_in_the_order_of_priority_then_time(
    database: Database, client: Client, handlers: Handlers
) -> None:
    jobs = await client.add_raw_jobs([("quick", None, JobSpec(priority=p)) for p in (3, -1, 2, 0)])
    await Worker(database, handlers.tasks, WorkerOptions(concurrency=1)).run_once()
    assert [job.id for job in handlers.started] == [jobs[i].id for i in (1, 3, 2, 0)]


async def test_forbidden_flags_leave_jobs_to_others(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_job("quick", None, JobSpec(flags=("a", "b")))
    other = await client.add_raw_job("quick", None, JobSpec(flags=("c", "d")))
    options = WorkerOptions(concurrency=2, forbidden_flags=("d",))
    assert (await Worker(database, handlers.tasks, options).run_once()).completed == 1
    [left] = await table.jobs()
    assert (left["id"], left["attempts"]) == (other.id, 0)


async def _forbid_later() -> tuple[str, ...]:
    await trio.lowlevel.checkpoint()
    return ("a",)


async def _forbid_nothing() -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("forbidden", "left"),
    [
        (lambda: ["a"], 1),
        (_forbid_later, 1),
        (list, 0),
        (lambda: None, 0),
        (_forbid_nothing, 0),
        (("unknown",), 0),
    ],
)
async def test_forbidden_flags_may_be_a_function_that_is_asked_before_each_claim(
    client: Client, handlers: Handlers, table: Table, forbidden: Flags, left: int
) -> None:
    await client.add_raw_jobs([("quick", None, JobSpec(flags=("a",))), ("quick", None)])
    options = WorkerOptions(concurrency=2, forbidden_flags=forbidden)
    await Worker(client.database, handlers.tasks, options).run_once()
    assert len(await table.jobs()) == left


async def _accept_later() -> tuple[str, ...]:
    await trio.lowlevel.checkpoint()
    return ("a", "z")


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        ({"accepted_flags": ["a"]}, ["a", "ab"]),
        ({"accepted_flags": _accept_later}, ["a", "ab"]),
        ({"accepted_flags": lambda: None}, ["", "a", "ab", "b"]),
        ({"accepted_flags": tuple}, []),
        ({"accepted_flags": ["a"], "forbidden_flags": ["b"]}, ["a"]),
        ({"accepted_flags": ["b"], "allowed_flags": ["b"]}, ["b"]),
        ({"allowed_flags": ["a"]}, ["", "a"]),
        ({"allowed_flags": []}, [""]),
        ({"allowed_flags": list}, [""]),
        ({"allowed_flags": lambda: None}, ["", "a", "ab", "b"]),
    ],
)
async def test_jobs_are_taken_whose_flags_are_accepted_and_allowed(
    client: Client, handlers: Handlers, table: Table, rules: dict[str, Any], taken: list[str]
) -> None:
    names = ("", "a", "ab", "b")
    jobs = await client.add_raw_jobs([("quick", None, JobSpec(flags=list(name))) for name in names])
    by_id = {job.id: name for job, name in zip(jobs, names, strict=True)}
    await Worker(client.database, handlers.tasks, WorkerOptions(concurrency=2, **rules)).run_once()
    left = {row["id"] for row in await table.jobs()}
    assert {name for job_id, name in by_id.items() if job_id not in left} == set(taken)


def unreachable() -> list[str]:
    raise ConnectionError("redis is down")


NO_ANSWERS: dict[str, Callable[[], Any]] = {
    "ConnectionError: redis is down": unreachable,
    "flags are needed, not the one string 'a'": lambda: "a",
    "1 is no flag": lambda: [1],
    "'a\\x00' is no flag": lambda: ["a\0"],
    "'int' object is not iterable": lambda: 3,
}


@pytest.mark.parametrize("option", ["forbidden_flags", "accepted_flags", "allowed_flags"])
@pytest.mark.parametrize("reason", NO_ANSWERS)
async def test_a_function_without_an_answer_is_asked_again_and_nothing_claimed_meanwhile(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture, option: str, reason: str
) -> None:
    started: list[int] = []

    def answer() -> Any:
        started.append(len(handlers.started))
        return NO_ANSWERS[reason]() if len(started) < 3 else None

    await client.add_raw_job("quick")
    options = WorkerOptions(concurrency=2, **{option: answer})  # type: ignore[arg-type]
    with trio.fail_after(20):
        report = await Worker(client.database, handlers.tasks, options).run_once()
    assert (report.completed, started[:3]) == (1, [0, 0, 0])
    assert f"no jobs are claimed: {option} failed, next try in " in caplog.text
    assert reason in caplog.text


async def test_a_stop_ends_a_drain_early(
    worker: Worker, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None)] * 30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run_once)
        await handlers.wait_started(10)
        worker.stop()
        handlers.release.set()
    assert len(handlers.ended) == 10
    left = await table.jobs()
    assert [(job["attempts"], job["locked_by"]) for job in left] == [(0, None)] * 20


async def test_a_worker_without_tasks_says_so(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    await Worker(database, TaskRegistry()).run_once()
    assert "has no tasks" in caplog.text
