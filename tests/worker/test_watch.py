"""The watch: slots and services that do nothing any more are seen, wherever one looks."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.support.asking import get, serving
from tests.support.handlers import Handlers
from tests.support.notices import noticing
from tests.support.waiting import wait_until
from tests.support.workers import make_worker, running
from trio_graphile import Client, Database, LocalQueueOptions, WorkerPhase, WorkerStatistics
from trio_graphile._model.bell import Bell
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.watch import Watch
from trio_graphile.plugins.pages import health_pages

LOCK = "select from graphile_worker._private_jobs where id = $1::bigint for update"
NO_ROOM = "slots wait for room for outcomes though there is room"


async def wait_with_a_bell_of_ones_own(recorder: Recorder) -> None:
    """Wait for room as it once was done: each slot replaces the bell, and only the last one hears it."""
    recorder.paused += 1
    while recorder.is_full:
        recorder._written = Bell()
        await recorder._written.wait()
    recorder.paused -= 1


async def test_slots_that_have_died_are_in_the_statistics_the_readiness_and_the_log(
    database: Database, client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_graphile._worker.recorder._MOST_WAITING", 10)
    monkeypatch.setattr(Recorder, "wait_for_room", wait_with_a_bell_of_ones_own)
    worker = make_worker(database, handlers.tasks, local_queue=LocalQueueOptions(size=100))
    held = await client.add_raw_job("held")
    async with serving(health_pages(worker)) as address, running(worker):
        await handlers.wait_started(1)
        with noticing() as notices:
            async with database.transaction() as onlooker:
                await onlooker.execute(LOCK, held.id)
                handlers.release.set()
                await wait_until(lambda: worker.statistics().record_pending > 0)
                await client.add_raw_jobs([("quick", None)] * 50)
                await wait_until(lambda: worker.statistics().paused == 4)
                assert (await get(address, "/readyz"))[0] == 200, "it is the database that is waited for"
            await notices.wait_for(f"the worker stands still: {NO_ROOM}")
        statistics = worker.statistics()
        assert (statistics.slots, statistics.paused, statistics.standstills) == (4, 3, (NO_ROOM,))
        assert statistics.standstill >= 0
        status, answer = await get(address, "/readyz")
        assert (status, answer["reasons"]) == (503, [NO_ROOM])
        worker.cancel()


async def test_a_service_that_has_ended_is_named_once_and_so_is_its_return(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(statistics=lambda: WorkerStatistics(phase=WorkerPhase.RUNNING), interval=0.001)
    ending = trio.Event()
    nursery.start_soon(ending.wait, name="lease")
    nursery.start_soon(watch.run, [nursery], name="watch")
    await wait_until(lambda: "lease" in watch._names)
    assert watch.standing == ()
    ending.set()
    await wait_until(lambda: watch.standing == ("lease has ended",))
    assert watch.since is not None
    with trio.CancelScope() as scope:  # noqa: TID251  # no shield
        nursery.start_soon(trio.sleep_forever, name="lease")
        await wait_until(lambda: watch.standing == ())
        scope.cancel()
    assert watch.since is None
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "the worker stands still: lease has ended",
        "no longer: lease has ended",
    ]
    nursery.cancel_scope.cancel()


async def test_a_worker_that_does_all_it_should_stands_still_nowhere(
    database: Database, client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    watched: list[WorkerStatistics] = []
    worker = make_worker(database, handlers.tasks, poll_interval=0.05)
    async with running(worker):
        await client.add_raw_job("held")
        await handlers.wait_started(1)
        with trio.move_on_after(5):
            while True:
                await client.add_raw_jobs([("quick", None)] * 10)
                watched.append(worker.statistics())
        handlers.release.set()
    assert {each.standstills for each in watched} == {()}
    assert "stands still" not in caplog.text
