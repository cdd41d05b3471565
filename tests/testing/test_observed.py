"""A plugin by which a test waits for what happens."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.support.workers import make_worker, running
from trio_graphile import Client, Database, OptionInvalid, TaskRegistry, Worker
from trio_graphile.hooks import Event, JobCompleted, JobEvent, JobFailed, WorkerStarted
from trio_graphile.testing import Observed

tasks = TaskRegistry()


@tasks.task("good")
async def good() -> None: ...


@tasks.task("bad")
async def bad() -> None:
    raise ValueError("no such luck")


@pytest.fixture
async def observed(database: Database) -> Observed:
    await Client(database).add_jobs([(good, None), (bad, None), (good, None)])
    return Observed()


def worker_of(database: Database, observed: Observed) -> Worker:
    return Worker(database, tasks, make_worker(database, tasks).options, plugins=[observed])


async def test_all_events_are_recorded(database: Database, observed: Observed) -> None:
    await worker_of(database, observed).run_once()
    assert [event.job.task_identifier for event in observed.of(JobCompleted)] == ["good", "good"]
    assert [event.job.task_identifier for event in observed.of(JobFailed)] == ["bad"]
    assert set(observed.of(Event)) >= {*observed.of(JobEvent), *observed.of(WorkerStarted)}


async def test_a_test_waits_for_what_happens(database: Database, observed: Observed) -> None:
    with trio.fail_after(20):
        async with running(worker_of(database, observed)):
            assert (await observed.wait_for(JobFailed)).error.startswith("ValueError: no such luck")
            second = await observed.wait_for(JobCompleted, count=2)
            assert second is observed.of(JobCompleted)[1]
            last = await observed.wait_for(JobCompleted, lambda event: event.job.id == second.job.id)
            assert last is second


async def test_what_does_not_happen_is_waited_for(database: Database, observed: Observed) -> None:
    await worker_of(database, observed).run_once()
    with trio.move_on_after(0.05) as scope:
        await observed.wait_for(JobCompleted, count=3)
    assert scope.cancelled_caught


@pytest.mark.parametrize("kind", ["JobCompleted", None, good])
async def test_what_is_no_event_is_not_waited_for(kind: Any) -> None:
    with trio.fail_after(20), pytest.raises(OptionInvalid, match=r"^kind: a class of events is needed, not "):
        await Observed().wait_for(kind)
