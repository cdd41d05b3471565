"""The worker: a nest of nurseries, whose nesting is the order of shutdown: innermost leaves first."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._cron.item import CronItem
from trio_graphile._database.database import Database
from trio_graphile._exceptions import (
    DatabaseError,
    WorkerBusy,
)
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import WorkerOptions
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._model.recovery import WORKER_ID_PREFIX
from trio_graphile._model.statistics import Backlog, WorkerPhase, WorkerStatistics
from trio_graphile._tasks.cron import fit_crontab
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.cron_ticker import Clock, SystemClock
from trio_graphile._worker.ending import Ending
from trio_graphile._worker.run_events import RunEvents
from trio_graphile._worker.services import Services
from trio_graphile._worker.verdict import Unwritten, verdict_of
from trio_graphile.hooks._job_events import JobTaken
from trio_graphile.hooks._raised import is_cancellation
from trio_graphile.hooks._registry import Hooks, Plugin, hooks_of

logger = logging.getLogger("trio_graphile.worker")

# Of flush_timeout, in this order: a statement or a thread at a cancellation, idle processes, the flush, and
# once more the first, for the flush's own last statement. Observers, if there are any, take theirs from the
# flush.
_PATIENCE_SHARE = 0.2
_CLOSING_SHARE = 0.1
_FLUSH_SHARE = 0.5
_OBSERVERS_SHARE = 0.1


@attrs.define(eq=False)
class Worker:
    """Runs the jobs of a queue; one more child of a nursery.

    However `run` ends, no job or queue is locked by this worker afterwards, and every job that it claimed is
    completed, failed, or back in the queue with its attempt; otherwise it raises `ShutdownIncomplete`.
    """

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions = attrs.field(factory=WorkerOptions)
    state: Any = attrs.field(default=None, kw_only=True)
    """Whatever handlers should find as `context.state`; a `State` holds several values, for `context.get`.
    Raises `StateMissing` if a task needs what is not there."""
    crontab: Sequence[CronItem] = attrs.field(default=(), kw_only=True)
    """Recurring jobs, which `run` adds when they are due. Raises `CrontabInvalid`."""
    clock: Clock = attrs.field(factory=SystemClock, kw_only=True, repr=False)
    """What says when that is; tests have one of their own."""
    plugins: Sequence[Plugin] = attrs.field(default=(), kw_only=True, repr=False)
    """Observers of what happens and interceptors, for this worker and for what its handlers add. A client
    that is to intercept what it adds needs them, too."""
    worker_id: str = attrs.field(init=False, factory=lambda: f"{WORKER_ID_PREFIX}{os.urandom(9).hex()}")
    """What stands in `locked_by` of the rows that this worker holds."""
    _run: _Run | None = attrs.field(init=False, default=None, repr=False)
    _stopping: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)
    _ended: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)
    _hooks: Hooks = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.crontab = fit_crontab(self.crontab, self.tasks)
        self.tasks.check_state(self.state)
        self._hooks = hooks_of(self.plugins, worker=self)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> ShutdownReport:
        """Run jobs until stopped or cancelled; a report says what became of them.

        Installs the schema if it is missing. `nursery.start` returns once the worker listens; what keeps
        it from starting is raised there: `DatabaseError`, `SchemaError`, `StateMissing`, and for tasks in
        processes `OptionInvalid` or `TaskInvalid`. Later raises `WorkerCrashed` if a service fails for a
        reason that does not pass, and `ShutdownIncomplete`, which names the crash if there was one, too. A
        `KeyboardInterrupt` is raised as it is; if not all could be recorded, in a group with
        `ShutdownIncomplete`, which `except ShutdownIncomplete` does not catch. Raises `WorkerBusy` if it
        runs already or has run and was stopped; one that was stopped before it ran, or while it started,
        ends at once.
        """
        return await self._serve(task_status, drain=False)

    async def run_once(self) -> ShutdownReport:
        """Run what is due, and what that adds, until nothing is due; later jobs are left for another time.

        Jobs of a named queue that another worker is busy with are left to it. Returns and raises as `run`
        does.
        """
        return await self._serve(trio.TASK_STATUS_IGNORED, drain=True)

    async def _serve(self, task_status: trio.TaskStatus[None], *, drain: bool) -> ShutdownReport:
        if self._stopping.is_set() and not self._ended.is_set():  # stopped before it ran
            task_status.started()
            self._ended.set()
            return ShutdownReport(worker_id=self.worker_id)
        with self._running(drain=drain) as run:
            return await run.serve(task_status)

    def stop(self) -> None:
        """Stop gracefully: start nothing more, give running jobs the grace period, then interrupt them."""
        self._stopping.set()
        if self._run is not None:
            self._run.end(StopCause.STOPPED)

    def cancel(self) -> None:
        """Stop at once: interrupt running jobs and give them back. `run` returns as after a stop."""
        self._stopping.set()
        if self._run is not None:
            self._run.end(StopCause.CANCELLED)
            self._run.force()

    def statistics(self) -> WorkerStatistics:
        """Say what the worker is doing; nothing, if it does not run."""
        return WorkerStatistics() if self._run is None else self._run.statistics()

    async def backlog(self) -> Backlog:
        """Count the jobs of the whole queue by state. Raises as `Client.backlog`, and costs as much."""
        return await Client(self.database).backlog()

    async def wait_stopping(self) -> None:
        """Wait until `stop` or `cancel` was called."""
        await self._stopping.wait()

    async def wait_ended(self) -> None:
        """Wait until `run` or `run_once` has ended."""
        await self._ended.wait()

    @contextlib.contextmanager
    def _running(self, *, drain: bool) -> Iterator[_Run]:
        if self._run is not None:
            raise WorkerBusy("the worker is running already")
        if self._stopping.is_set():
            raise WorkerBusy("the worker was stopped; make a new one")
        self._run = _Run(self, drain=drain)
        try:
            yield self._run
        finally:
            self._run = None
            self._ended.set()


@attrs.define(eq=False)
class _Run:
    """One run of a worker: its services and how they are nested."""

    worker: Worker
    _drain: bool = attrs.field(kw_only=True)
    interrupt: Callable[[], None] = attrs.field(init=False, default=lambda: None)
    """Cancels the handlers, once all has started: before, `_ending` remembers that somebody wants it."""
    _ending: Ending = attrs.field(init=False, factory=Ending)
    _has_started: bool = attrs.field(init=False, default=False)
    _unwritten: Unwritten | None = attrs.field(init=False, default=None)
    """What the last records left open."""
    _services: Services = attrs.field(init=False)
    _events: RunEvents = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        worker = self.worker
        self._services = Services(
            database=worker.database,
            tasks=worker.tasks,
            options=worker.options,
            worker_id=worker.worker_id,
            state=worker.state,
            hooks=worker._hooks,  # noqa: SLF001  # this is the worker, too
            crontab=worker.crontab,
            clock=worker.clock,
            drain=self._drain,
            patience=worker.options.shutdown.flush_timeout * _PATIENCE_SHARE,
            ending=self._ending.begun,
            on_breaking_migration=lambda: self.end(StopCause.SUPERSEDED),
            statistics_now=self.statistics,
        )
        self._events = RunEvents(self._services.observation)

    def statistics(self) -> WorkerStatistics:
        """Say what is going on."""
        if self._ending.begun.is_set():
            return self._services.statistics(WorkerPhase.STOPPING)
        return self._services.statistics(WorkerPhase.RUNNING if self._has_started else WorkerPhase.STARTING)

    def end(self, cause: StopCause) -> None:
        """Begin to end, for the first cause that is given."""
        self._ending.begin(cause)

    def force(self) -> None:
        """Interrupt the handlers."""
        self._ending.is_forced = True
        self._events.forced(self._services.runner.jobs)
        self.interrupt()

    @trio.lowlevel.enable_ki_protection
    async def serve(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        """Run from start to end, and tell observers; what it raises is one exception, or a cancellation."""
        limit = self.worker.options.shutdown.flush_timeout * _OBSERVERS_SHARE
        return await self._services.observation.run_beside(
            partial(self._serve_and_tell, task_status), limit=limit
        )

    async def _serve_and_tell(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        worker, events = self.worker, self._events
        events.starting(
            schema=worker.database.schema,
            concurrency=worker.options.concurrency,
            tasks=worker.tasks.identifiers,
        )
        try:
            report = await self._serve(task_status)
        except BaseException as error:
            if is_cancellation(error):
                events.ended(StopCause.CANCELLED)
            else:
                events.ended(None, error=error)
            raise
        events.ended(report.cause, report)
        return report

    async def _serve(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        services = self._services
        services.lanes.prepare(self.worker.tasks)
        self.worker.tasks.check_state(self.worker.state)  # of those that were registered since
        try:
            if await self._prepare():
                await self._nest_as_one(task_status)
            else:
                task_status.started()
                self._say_what_is_unwritten()
        finally:
            await services.holdings.aclose()  # noqa: ASYNC102  # each session at most a second, none if cancelled
        report = ShutdownReport(
            worker_id=self.worker.worker_id,
            cause=self._ending.cause,
            abandoned=tuple(services.lanes.abandoned),
            seconds=trio.current_time() - self._ending.at,
            **attrs.asdict(services.outcomes.counts),
        )
        logger.info("ended: %s", report)
        return report

    async def _prepare(self) -> bool:
        """Get ready; False if the worker is to end before it is: then nothing of it is left."""
        holdings, is_ready = self._services.holdings, False
        try:
            with self._ending.cuts_short():
                await holdings.prepare(releases_old_locks=self._drain)
            is_ready = not self._ending.begun.is_set()
            if not is_ready:
                self._note_ending()
        finally:
            if not is_ready:
                await self._flush()  # noqa: ASYNC102  # shielded and bounded inside
        return is_ready

    async def _nest_as_one(self, task_status: trio.TaskStatus[None]) -> None:
        """Run the nest; raise one exception for all that ended it."""
        try:
            await self._nest(task_status)
        except BaseException as raised:
            verdict = verdict_of(raised, self._unwritten, self.worker.worker_id)
            if verdict is None:
                raise
            raise verdict from raised  # noqa: ASYNC104  # None if there is only a cancellation
        self._say_what_is_unwritten()

    def _say_what_is_unwritten(self) -> None:
        verdict = verdict_of(None, self._unwritten, self.worker.worker_id)
        if verdict is not None:
            raise verdict

    async def _nest(self, task_status: trio.TaskStatus[None]) -> None:
        """Presence outlives recording, recording outlives handling, handling outlives intake."""
        services, options = self._services, self.worker.options
        closing_timeout = options.shutdown.flush_timeout * _CLOSING_SHARE
        async with trio.open_nursery() as presence:
            try:
                await presence.start(services.lease.run, name="lease")
                if not self._drain:
                    await presence.start(services.sweeper().run, name="sweeper")
                async with trio.open_nursery() as recording:
                    await recording.start(services.outcomes.run, name="outcomes")
                    recording.start_soon(services.cancellations.run, name="cancellations")
                    async with services.lanes.open(closing_timeout), trio.open_nursery() as handling:
                        take = self._take_and_tell if services.observation.teller(JobTaken) else self._take
                        for number in range(options.concurrency):
                            handling.start_soon(services.runner.run_all, take, name=f"slot {number}")
                        async with trio.open_nursery() as intake:
                            with self._ending.cuts_short():
                                await self._start_intake(intake)
                            nest = (presence, recording, handling, intake)
                            presence.start_soon(services.watch.run, nest, name="watch")
                            task_status.started()
                            self.interrupt = handling.cancel_scope.cancel
                            await self._ending.begun.wait()
                            self._note_ending()
                            intake.cancel_scope.cancel()
                            if self._ending.is_forced:  # in the start, maybe, when that was not heard
                                self.interrupt()
                        recording.start_soon(self._end_grace_period, name="grace period")
                    recording.cancel_scope.cancel()
            finally:
                try:
                    await self._flush()  # noqa: ASYNC102  # shielded and bounded inside
                finally:
                    services.lease.stop()
            presence.cancel_scope.cancel()

    async def _start_intake(self, intake: trio.Nursery) -> None:
        """Start what brings jobs, in the given nursery."""
        if self._drain:
            self._note_started()
            intake.start_soon(self._drain_queue, name="local queue")
            return
        if self.worker.options.notifications:
            await intake.start(self._services.listener().run, name="listener")
        self._note_started()
        await intake.start(self._services.local_queue.run, name="local queue")
        if self.worker.crontab:
            await intake.start(self._services.cron_ticker().run, name="cron ticker")

    def _note_started(self) -> None:
        self._has_started = True
        self._events.started()

    def _note_ending(self) -> None:
        grace_period = self.worker.options.shutdown.grace_period
        self._events.ending(self._ending.cause, self._services.runner.jobs, grace_period)

    async def _end_grace_period(self) -> None:
        """Interrupt what still runs when its time is over."""
        if self._has_started:  # else nothing runs, and the slots wait for a local queue that never came
            await trio.sleep_until(self._ending.at + self.worker.options.shutdown.grace_period)
        if running := self._services.runner.jobs:
            self._events.grace_period_over(running)
        self.interrupt()

    async def _take_and_tell(self) -> Job | None:
        job = await self._take()
        if job is not None:
            self._services.observation.tell(JobTaken(worker_id=self.worker.worker_id, job=job))
        return job

    def _take(self) -> Awaitable[Job | None]:
        """Wait for the next job of a slot; None once no more will come."""
        services = self._services
        return self._take_later() if services.outcomes.is_full else services.local_queue.take()

    async def _take_later(self) -> Job | None:
        await self._services.outcomes.wait_for_room()
        return await self._services.local_queue.take()

    async def _drain_queue(self) -> None:
        await self._services.local_queue.drain()
        self.end(StopCause.DRAINED)

    async def _flush(self) -> None:
        """Write the last outcomes and make sure that nothing is left: the only words after the last job's."""
        services = self._services
        reason: object = "the database did not answer in time"
        share = _FLUSH_SHARE - (_OBSERVERS_SHARE if services.chains.has_observers else 0.0)
        limit = self.worker.options.shutdown.flush_timeout * share
        try:
            with trio.move_on_after(limit, shield=True):
                await services.outcomes.flush()
                await services.leave()
                await services.outcomes.insist()
                refused = services.outcomes.refused.values()
                reason = "; ".join({str(each.error) for each in refused}) or None
        except DatabaseError as error:
            reason = error
        finally:  # a second Ctrl-C may end it, too
            if reason is not None:
                services.holdings.terminate()  # a polite farewell would take time that is up
                held = sorted(job.id for job in services.ledger.snapshot())
                self._unwritten = Unwritten(tuple(held), str(reason))
