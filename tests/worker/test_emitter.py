"""Observers: each is guarded, none holds up a job, and what happens when they are slow is said."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.hooks.recorder import Recorder
from tests.support.handlers import Handlers
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import NEVER, running
from trio_graphile import (
    Client,
    Database,
    LocalQueueOptions,
    ObserverOptions,
    ShutdownOptions,
    ShutdownReport,
    StopCause,
    Worker,
    WorkerCrashed,
    WorkerOptions,
)
from trio_graphile._interceptors.chains import Chains
from trio_graphile._worker.emitter import Emitter
from trio_graphile.hooks import (
    Event,
    Hooks,
    JobCompleted,
    JobsReturned,
    JobStarted,
    ShutdownStarted,
    WorkerEnded,
    WorkerStarted,
    WorkerStarting,
)
from trio_graphile.hooks._registry import hooks_of

LIMIT = 0.1
"""For what is left at the end, by the clock of the test."""


def event(count: int) -> JobsReturned:
    return JobsReturned(worker_id="w", count=count)


def life() -> WorkerStarted:
    return WorkerStarted(worker_id="w")


def emitter(*observers: Callable[[Event], object], timeout: float = 5.0, queue_size: int = 100) -> Emitter:
    hooks = Hooks()
    for observer in observers:
        hooks.on(Event, observer)
    return Emitter(
        worker_id="w",
        chains=Chains.of(hooks_of([hooks])),
        options=ObserverOptions(timeout=timeout, queue_size=queue_size),
    )


@asynccontextmanager
async def telling(of: Emitter) -> AsyncIterator[None]:
    """Tell of events beside the body."""
    begun, over = trio.Event(), trio.Event()

    async def body() -> None:
        begun.set()
        await over.wait()

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await of.run_beside(body, limit=LIMIT)

        nursery.start_soon(run)
        await begun.wait()
        yield
        over.set()


# --- by a clock of the test's -------------------------------------------------------------------


async def test_events_are_told_in_their_order_to_one_observer_after_the_other() -> None:
    told: list[str] = []

    async def slow(event: Event) -> None:
        await trio.lowlevel.checkpoint()
        told.append(f"slow: {event}")

    def quick(event: Event) -> None:
        told.append(f"quick: {event}")

    observed = emitter(slow, quick)
    async with telling(observed):
        for count in range(2):
            observed.emit(JobsReturned, count=count)
    assert told == [f"{who}: {event(count)}" for count in range(2) for who in ("slow", "quick")]


async def test_one_that_raises_concerns_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def raises(_: Event) -> None:
        raise LookupError("at once")

    async def raises_later(_: Event) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("later")

    async def raises_many(_: Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises_later, event(0))
            nursery.start_soon(trio.sleep_forever)

    observed = emitter(raises, raises_later, raises_many, told.append)
    async with telling(observed):
        observed.emit(JobsReturned, count=1)
        observed.emit(JobsReturned, count=2)
    assert told == [event(1), event(2)]
    assert len([record for record in caplog.records if "raised" in record.message]) == 6
    assert "observer of Event of hooks (test_one_that_raises" in caplog.text


async def test_one_that_takes_too_long_is_cancelled_and_named(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[float, Event]] = []

    async def hangs(_: Event) -> None:
        await trio.sleep_forever()

    def notes(event: Event) -> None:
        told.append((trio.current_time(), event))

    observed = emitter(hangs, notes, timeout=3)
    began = trio.current_time()
    async with telling(observed):
        observed.emit(JobsReturned, count=1)
        observed.emit(JobsReturned, count=2)
        await trio.sleep(10)
    assert [(round(at - began, 6), told_of) for at, told_of in told] == [(3, event(1)), (6, event(2))]
    assert caplog.text.count("was cancelled: it took too long for JobsReturned") == 2


async def test_one_that_blocks_the_event_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    clock = trio.current_time

    def blocks(_: Event) -> None:
        until = clock() + 0.01
        while clock() < until:
            pass

    observed = emitter(blocks, timeout=0.001)
    async with telling(observed):
        observed.emit(JobsReturned, count=1)
    assert "held up the event loop" in caplog.text


async def test_what_finds_the_queue_full_is_dropped_counted_and_logged(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Event] = []
    go_on = trio.Event()

    async def waits(event: Event) -> None:
        await go_on.wait()
        told.append(event)

    observed = emitter(waits, queue_size=3, timeout=60)
    async with telling(observed):
        for count in range(10):
            observed.emit(JobsReturned, count=count)
        assert (observed.waiting, observed.dropped) == (3, 7)
        go_on.set()
        await trio.sleep(1)
        assert observed.waiting == 0
        observed.emit(JobsReturned, count=10)
    assert told == [event(0), event(1), event(2), event(10)]
    warnings = [record.message for record in caplog.records]
    assert warnings == [
        "observers are too slow: events are dropped",
        "dropped 7 events, since observers were too slow",
    ]


async def test_what_the_worker_did_itself_is_never_dropped() -> None:
    told: list[Event] = []
    observed = emitter(told.append, queue_size=1)
    async with telling(observed):
        for _ in range(3):
            observed.emit(JobsReturned, count=1)
            observed.emit(WorkerStarted)
    assert told == [event(1), life(), life(), life()]


async def test_what_is_left_at_the_end_is_told(autojump_clock: trio.testing.MockClock) -> None:
    told: list[Event] = []

    async def takes_a_moment(event: Event) -> None:
        await trio.sleep(LIMIT / 10)
        told.append(event)

    observed = emitter(takes_a_moment)
    async with telling(observed):
        for count in range(4):
            observed.emit(JobsReturned, count=count)
    assert told == [event(count) for count in range(4)]
    assert observed.dropped == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_end_takes_no_longer_than_it_may(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, *, cancelled: bool
) -> None:
    """Half of the time is for what jobs did, the rest for what the worker did."""
    told: list[Event] = []

    async def slow(event: Event) -> None:
        await trio.sleep(LIMIT / 10)
        told.append(event)

    observed = emitter(slow)

    async def body() -> None:
        for count in range(50):
            observed.emit(JobsReturned, count=count)
        observed.emit(WorkerStarted)
        if cancelled:
            scope.cancel()
            await trio.lowlevel.checkpoint()

    began = trio.current_time()
    with trio.move_on_after(60) as scope:
        await observed.run_beside(body, limit=LIMIT)
    assert trio.current_time() - began <= LIMIT * 1.001
    assert scope.cancelled_caught is cancelled
    assert told[-1] == life()
    assert 3 <= len(told) <= 7
    assert observed.dropped == 51 - len(told)
    assert f"dropped {observed.dropped} events" in caplog.text


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_observer_at_work_is_cut_short_at_the_end_and_not_before(
    autojump_clock: trio.testing.MockClock, *, cancelled: bool
) -> None:
    at_work, told = trio.Event(), list[Event]()

    async def hangs(_: Event) -> None:
        at_work.set()
        await trio.sleep_forever()

    observed = emitter(hangs, told.append, timeout=3600)

    async def body() -> None:
        observed.emit(WorkerStarted)
        await at_work.wait()
        if cancelled:
            scope.cancel()
        await trio.sleep(1)

    began = trio.current_time()
    with trio.move_on_after(60) as scope:
        await observed.run_beside(body, limit=LIMIT)
    assert trio.current_time() - began == pytest.approx(LIMIT / 2 + (0 if cancelled else 1))
    assert told == [life()]


async def test_observers_that_hang_leave_time_for_the_others(autojump_clock: trio.testing.MockClock) -> None:
    told: list[Event] = []

    async def hangs(_: Event) -> None:
        await trio.sleep_forever()

    observed = emitter(hangs, told.append, hangs, timeout=3600)

    async def body() -> None:
        for _ in range(5):
            observed.emit(WorkerStarted)

    began = trio.current_time()
    await observed.run_beside(body, limit=LIMIT)
    assert trio.current_time() - began <= LIMIT
    assert told == [life()] * 5


async def test_a_short_observer_is_not_interrupted_by_a_cancellation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    at_work, told = trio.Event(), list[Event]()

    async def brief(event: Event) -> None:
        at_work.set()
        await trio.sleep(LIMIT / 4)
        told.append(event)

    observed = emitter(brief)

    async def body() -> None:
        observed.emit(JobsReturned, count=1)
        await at_work.wait()
        scope.cancel()
        await trio.sleep_forever()

    with trio.move_on_after(60) as scope:
        await observed.run_beside(body, limit=LIMIT)
    assert told == [event(1)]


@pytest.mark.parametrize("error", [LookupError("a"), WorkerCrashed("b"), KeyboardInterrupt()])
async def test_what_the_body_raises_is_raised_as_it_is(error: BaseException) -> None:
    told: list[Event] = []
    observed = emitter(told.append)

    async def body() -> None:
        observed.emit(WorkerStarted)
        raise error

    with pytest.raises(type(error)) as raised:
        await observed.run_beside(body, limit=LIMIT)
    assert raised.value is error
    assert told == [life()]


async def test_ctrl_c_in_an_observer_is_not_swallowed() -> None:
    def interrupted(_: Event) -> None:
        raise KeyboardInterrupt

    observed = emitter(interrupted)

    async def body() -> None:
        observed.emit(WorkerStarted)
        await trio.sleep_forever()

    with pytest.RaisesGroup(KeyboardInterrupt):
        await observed.run_beside(body, limit=LIMIT)


async def test_ctrl_c_in_an_observer_does_not_hide_what_the_body_raises_then() -> None:
    def interrupted(_: Event) -> None:
        raise KeyboardInterrupt

    observed = emitter(interrupted)

    async def body() -> None:
        observed.emit(WorkerStarted)
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("a")

    with pytest.RaisesGroup(KeyboardInterrupt, LookupError):
        await observed.run_beside(body, limit=LIMIT)


async def test_where_nobody_observes_nothing_runs_and_nothing_is_kept() -> None:
    observed = emitter()

    async def body() -> int:
        observed.emit(JobsReturned, count=1)
        return len(trio.lowlevel.current_task().parent_nursery.child_tasks)  # type: ignore[union-attr]

    beside = len(trio.lowlevel.current_task().parent_nursery.child_tasks)  # type: ignore[union-attr]
    assert await observed.run_beside(body, limit=LIMIT) == beside
    assert observed.waiting == 0
    assert not observed.hears(JobCompleted)


async def test_nobody_is_told_of_what_nobody_observes() -> None:
    hooks = Hooks()
    hooks.on(JobCompleted, lambda _: None)
    observed = Emitter(worker_id="w", chains=Chains.of(hooks_of([hooks])), options=ObserverOptions())
    observed.emit(JobsReturned, count=1)
    assert observed.waiting == 0
    assert not observed.hears(JobStarted, JobsReturned)
    assert observed.hears(JobStarted, JobCompleted)


# --- whole workers ------------------------------------------------------------------------------


async def test_jobs_never_wait_for_observers(database: Database, client: Client, handlers: Handlers) -> None:
    told, go_on = list[Event](), trio.Event()

    async def waits(event: Event) -> None:
        told.append(event)
        await go_on.wait()

    hooks = Hooks()
    hooks.on(JobStarted, waits)
    options = WorkerOptions(
        concurrency=2,
        local_queue=LocalQueueOptions(size=100),
        observers=ObserverOptions(queue_size=5, timeout=600),
    )
    worker = Worker(database, handlers.tasks, options, plugins=[hooks])
    async with running(worker):
        await client.add_raw_jobs([("quick", None)] * 50)
        await handlers.wait_ended(50)
        await wait_until(lambda: len(told) == 1)  # all may have ended before the observer had its first turn
        statistics = worker.statistics()
        waiting = statistics.events_waiting
        assert waiting in (4, 5), "by who came first, the first event or its observer"
        assert statistics.events_dropped == 49 - waiting
        go_on.set()
        await wait_until(lambda: len(told) == 1 + waiting)


@pytest.mark.parametrize("way", ["stop", "cancel", "outer", "crash"])
async def test_the_last_events_are_told_however_a_worker_ends(
    database: Database, client: Client, handlers: Handlers, way: str
) -> None:
    """Also while an observer hangs; and it is not the observers that the end waits for."""

    class Broken(type(handlers.tasks)):  # type: ignore[misc]  # a registry that breaks on demand
        broken = False

        @property
        def identifiers(self) -> tuple[str, ...]:
            if self.broken:
                raise LookupError("broken")
            return super().identifiers  # type: ignore[no-any-return]

    tasks = Broken()
    tasks.include(handlers.tasks)
    hooks, recorder = Hooks(), Recorder()

    @hooks.on(WorkerStarted)
    async def hangs(_: WorkerStarted) -> None:
        await trio.sleep_forever()

    options = WorkerOptions(
        concurrency=2,
        poll_interval=0.05,
        shutdown=ShutdownOptions(grace_period=0.01, flush_timeout=2),
        observers=ObserverOptions(timeout=600),
    )
    worker = Worker(database, tasks, options, plugins=[hooks, recorder])
    reports: list[ShutdownReport] = []
    errors: list[WorkerCrashed] = []

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            reports.append(await worker.run(task_status=task_status))
        except WorkerCrashed as error:
            errors.append(error)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            await client.add_raw_job("held")
            await handlers.wait_started(1)
            began = trio.current_time()
            match way:
                case "stop":
                    worker.stop()
                case "cancel":
                    worker.cancel()
                case "outer":
                    nursery.cancel_scope.cancel()
                case _:
                    tasks.broken = True
    assert trio.current_time() - began < 5
    [ended] = recorder.of(WorkerEnded)
    assert recorder.events[-1] is ended
    assert len(recorder.of(WorkerStarting)) == 1
    assert recorder.of(WorkerStarted), "the event that somebody hung at came to the others all the same"
    match way:
        case "stop":
            assert (ended.cause, ended.report) == (StopCause.STOPPED, reports[0])
            assert recorder.of(ShutdownStarted)
        case "cancel":
            assert (ended.cause, ended.report) == (StopCause.CANCELLED, reports[0])
            assert "ShutdownForced" in recorder.names(Event)
        case "outer":
            assert (ended.cause, ended.report, ended.error) == (StopCause.CANCELLED, None, None)
        case _:
            assert (ended.cause, ended.report) == (None, None)
            assert (ended.error or "").startswith("WorkerCrashed: LookupError: broken")


async def test_an_observer_that_asks_the_worker_and_stops_it(
    database: Database, client: Client, handlers: Handlers
) -> None:
    """An observer may do what anybody may, but wait for the worker's end."""
    seen: list[int] = []
    hooks = Hooks()

    @hooks.on(JobCompleted)
    async def last_one(_: JobCompleted) -> None:
        seen.append(worker.statistics().slots)
        await client.add_raw_job("somebody else's")
        worker.stop()

    options = WorkerOptions(poll_interval=NEVER)
    worker = Worker(database, handlers.tasks, options, plugins=[hooks])
    await client.add_raw_job("quick")
    with trio.fail_after(PATIENCE):
        report = await worker.run()
    assert report.completed == 1
    assert seen == [options.concurrency]


async def test_a_logger_is_told_what_is_dropped_at_the_end(
    database: Database, client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()

    @hooks.on(JobCompleted)
    async def hangs(_: JobCompleted) -> None:
        await trio.sleep_forever()

    await client.add_raw_jobs([("quick", None)] * 5)
    options = WorkerOptions(shutdown=ShutdownOptions(flush_timeout=3.0))
    with caplog.at_level(logging.WARNING):
        await Worker(database, handlers.tasks, options, plugins=[hooks]).run_once()
    assert "events, since observers were too slow" in caplog.text
