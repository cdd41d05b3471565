"""The lane `process`: a handler runs elsewhere, and can be killed."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table, payloads
from tests.support.waiting import wait_until
from tests.support.workers import SOON, make_worker, running
from tests.worker import process_tasks
from tests.worker.telephone import Telephone, open_telephone
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    ProcessOptions,
    TaskInvalid,
    TaskRegistry,
    Worker,
    WorkerCrashed,
)


@pytest.fixture
async def telephone(nursery: trio.Nursery) -> Telephone:
    return await open_telephone(nursery)


@pytest.fixture
def tasks(handlers: Handlers) -> TaskRegistry:
    handlers.tasks.include(process_tasks.tasks)
    return handlers.tasks


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    assert multiprocessing.active_children() == []
    yield
    assert multiprocessing.active_children() == []


def is_alive(process: int) -> bool:
    """Whether there is such a process, zombies not counted."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children() -> list[int | None]:
    return [process.pid for process in multiprocessing.active_children()]


async def test_a_process_is_another_one_knows_its_job_and_is_left_to_its_worker_by_signals(
    database: Database, client: Client, tasks: TaskRegistry, telephone: Telephone
) -> None:
    job = await client.add_raw_job("attentive", telephone.port)
    async with running(make_worker(database, tasks)) as run:
        caller = await telephone.next_call()
        assert caller.process != os.getpid()
        assert caller.job_id == job.id
        for number in (signal.SIGTERM, signal.SIGHUP):  # as a supervisor sends them to the whole group
            os.kill(caller.process, number)
        await caller.answer()
        report = await run.stop()
    assert (report.completed, report.failed, report.returned) == (1, 0, 0)


async def test_a_process_is_kept_for_so_many_jobs_and_then_replaced(
    database: Database, client: Client, tasks: TaskRegistry, telephone: Telephone
) -> None:
    await client.add_raw_jobs([("attentive", telephone.port)] * 3)
    processes = ProcessOptions(jobs_per_process=2)
    async with running(make_worker(database, tasks, concurrency=1, processes=processes)):
        first, second, third = [caller.process for caller in await telephone.answer(3)]
    assert first == second != third


async def test_processes_may_be_started_before_the_first_job(
    database: Database, client: Client, tasks: TaskRegistry, telephone: Telephone
) -> None:
    processes = ProcessOptions(count=2, jobs_per_process=2, prestart=True)
    async with running(make_worker(database, tasks, concurrency=1, processes=processes)):
        started = children()
        assert len(started) == 2
        await client.add_raw_jobs([("attentive", telephone.port)] * 4)
        callers = [caller.process for caller in await telephone.answer(4)]
        assert (
            sorted(callers, key=callers.index) == [callers[0]] * 2 + [callers[2]] * 2
        )  # nothing else counted
        assert set(callers) == set(started)


async def test_no_process_is_started_before_its_time_unless_a_task_needs_one(
    database: Database, handlers: Handlers
) -> None:
    for prestart in (True, False):
        processes = ProcessOptions(prestart=prestart)
        async with running(make_worker(database, handlers.tasks, processes=processes)):
            assert children() == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise LookupError('no library here')", "LookupError: no library here"),
        (
            "__import__('os')._exit(3)",
            "task 'fragile': a process died while it imported fragile_tasks, with exit code 3",
        ),
    ],
)
async def test_a_worker_whose_processes_do_not_start_ends_at_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    (tmp_path / "fragile_tasks.py").write_text(
        f"""
import multiprocessing
from trio_graphile import TaskRegistry

tasks = TaskRegistry()

@tasks.task("fragile", lane="process")
def fragile(payload: None) -> None: ...

if multiprocessing.parent_process() is not None:
    {line}
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    fragile = importlib.import_module("fragile_tasks")
    monkeypatch.setitem(sys.modules, "fragile_tasks", fragile)
    worker = make_worker(database, fragile.tasks, processes=ProcessOptions(count=2, prestart=True))
    with pytest.raises(WorkerCrashed, match=said):
        await worker.run()


async def test_what_a_handler_raises_in_a_process_means_what_it_means_elsewhere(
    client: Client, tasks: TaskRegistry, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    await client.add_raw_job("unlucky", {"password": "hunter2"})
    await client.add_raw_jobs([("hopeless", None), ("sleepy", None), ("patient", None)])
    report = await make_worker(client.database, tasks, concurrency=1).run_once()
    assert (report.failed, report.snoozed) == (3, 1)
    unlucky, hopeless, sleepy, patient = await table.jobs()
    place = r"\(tests\.worker\.process_tasks:\d+ in unlucky\)"
    assert re.fullmatch(rf"ValueError: no such luck with 7 letters {place}", str(unlucky["last_error"]))
    assert unlucky["attempts"] == 1
    assert (hopeless["attempts"], str(hopeless["last_error"])[:30]) == (25, "PermanentFailure: never again ")
    assert (sleepy["attempts"], sleepy["last_error"]) == (0, None)
    assert sleepy["delay"] == pytest.approx(1000, abs=10)
    assert (patient["attempts"], str(patient["last_error"])[:22]) == (1, "RetryAfter: busy there")
    assert patient["delay"] == pytest.approx(2000, abs=10)
    assert "in unlucky" in caplog.text  # the traceback of the other process
    assert "hunter2" not in caplog.text


async def test_a_process_that_dies_is_a_failure_and_the_next_job_gets_another(
    client: Client, tasks: TaskRegistry, table: Table, telephone: Telephone
) -> None:
    await client.add_raw_jobs([("leaving", None), ("attentive", telephone.port)])
    async with running(make_worker(client.database, tasks, concurrency=1)) as run:
        await telephone.answer(1)
        report = await run.stop()
    assert (report.failed, report.completed) == (1, 1)
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"]) == (1, None)
    assert job["last_error"] == "its process died, with exit code 3"


async def test_what_a_handler_has_started_is_killed_with_it(
    client: Client, database: Database, tasks: TaskRegistry, telephone: Telephone
) -> None:
    await client.add_raw_job("starting", telephone.port)
    async with running(make_worker(database, tasks, shutdown=SOON)) as run:
        started = (await telephone.next_call()).process
        assert is_alive(started)
        assert (await run.stop()).returned == 1
        await wait_until(lambda: not is_alive(started))


@pytest.mark.parametrize("method", ["spawn", "fork"])
async def test_a_handler_in_a_process_may_start_pools_of_processes(
    client: Client, database: Database, tasks: TaskRegistry, table: Table, method: str
) -> None:
    await client.add_raw_job("multiplying", method, JobSpec(max_attempts=1))
    report = await make_worker(database, tasks).run_once()
    assert (report.completed, report.failed) == (1, 0)


async def test_a_loop_without_end_is_killed_at_its_timeout_and_its_slot_goes_on(
    client: Client, tasks: TaskRegistry, table: Table, telephone: Telephone
) -> None:
    called = ("attentive", telephone.port)
    await client.add_raw_jobs([called, ("briefly_busy", None), called])
    async with running(make_worker(client.database, tasks, concurrency=1)) as run:
        killed, other = await telephone.answer(2)  # the first process was kept for the loop
        assert killed.process not in children()
        await other.wait_gone()
        report = await run.stop()
    assert killed.process != other.process
    assert (report.failed, report.completed) == (1, 2)
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"]) == (1, None)
    assert job["last_error"] == "TimeoutError: the handler took longer than its timeout of 0.3 s"


@pytest.mark.parametrize("end", [Worker.stop, Worker.cancel])
async def test_a_loop_without_end_is_killed_at_the_end_and_its_job_given_back(
    client: Client, tasks: TaskRegistry, table: Table, telephone: Telephone, end: Callable[[Worker], None]
) -> None:
    await client.add_raw_job("busy", telephone.port)
    async with running(make_worker(client.database, tasks, shutdown=SOON)) as run:
        caller = await telephone.next_call()
        end(run.worker)
        report = await run.wait()
        assert children() == []
        await caller.wait_gone()
    assert (report.returned, report.failed, report.abandoned) == (1, 0, ())
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"], job["last_error"]) == (0, None, None)


async def test_processes_are_as_many_as_they_may_be_and_slots_are_left_to_others(
    client: Client, handlers: Handlers, tasks: TaskRegistry, table: Table, telephone: Telephone
) -> None:
    first = JobSpec(priority=-1)
    await client.add_raw_jobs([("attentive", telephone.port, first)] * 5 + [("quick", None)] * 20)
    processes = ProcessOptions(count=2)
    async with running(make_worker(client.database, tasks, concurrency=10, processes=processes)) as run:
        held = [await telephone.next_call() for _ in range(2)]
        await handlers.wait_ended(20)
        await table.wait_until("select count(*) = 5 from graphile_worker._private_jobs")
        assert [job["locked_by"] is not None for job in await table.jobs()] == [True] * 2 + [False] * 3
        for caller in held:
            await caller.answer()
        callers = held + await telephone.answer(3)
        await callers[-1].wait_gone()
        report = await run.stop()
    assert report.completed == 25
    assert len({caller.process for caller in callers}) == 2


async def test_a_batch_runs_in_a_process_and_keeps_what_failed(
    client: Client, tasks: TaskRegistry, table: Table
) -> None:
    await client.add_batch_job(process_tasks.index, [1, 2, 3, 4])
    assert (await make_worker(client.database, tasks).run_once()).failed == 1
    [job] = await table.jobs()
    assert str(job["last_error"]).startswith(
        "2 of 4 items failed: 1: ValueError: 2 is even; 3: ValueError: 4"
    )
    assert await payloads(client.database) == ["[2,4]"]


async def test_a_handler_that_a_process_would_not_find_keeps_the_worker_from_starting(
    database: Database, client: Client, table: Table
) -> None:
    await client.add_raw_job("renamed")
    with pytest.raises(TaskInvalid, match="a process does not find it as 'original'"):
        await make_worker(database, process_tasks.misnamed).run()
    with pytest.raises(TaskInvalid, match="a process does not find it as 'original'"):
        await make_worker(database, process_tasks.misnamed).run_once()
    [job] = await table.jobs()
    assert (job["attempts"], job["locked_by"], job["last_error"]) == (0, None, None)


async def test_a_task_that_was_registered_too_late_for_processes_fails_and_says_so(
    client: Client, handlers: Handlers, table: Table
) -> None:
    async with running(make_worker(client.database, handlers.tasks)):
        handlers.tasks.include(process_tasks.tasks)
        await client.add_raw_job("leaving")
        await table.wait_until("select last_error is not null from graphile_worker._private_jobs")
    [job] = await table.jobs()
    assert "registered after the worker had started" in str(job["last_error"])
