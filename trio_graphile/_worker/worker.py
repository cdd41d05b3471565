"""The worker: what users make, run and stop."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._cron.item import CronItem
from trio_graphile._database.database import Database
from trio_graphile._exceptions import WorkerBusy
from trio_graphile._model.options import WorkerOptions
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._model.recovery import WORKER_ID_PREFIX
from trio_graphile._model.statistics import Backlog, WorkerStatistics
from trio_graphile._model.validators import check_kind
from trio_graphile._tasks.cron import fit_crontab
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.cron_ticker import Clock, SystemClock
from trio_graphile._worker.ending import Ending
from trio_graphile._worker.run import Run, cancel_timeout_of
from trio_graphile._worker.run_settings import RunSettings
from trio_graphile.hooks._registry import Hooks, Plugin, hooks_of

logger = logging.getLogger("trio_graphile.worker")


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
    _run: Run | None = attrs.field(init=False, default=None, repr=False)
    _stopping: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)
    _ended: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)
    _hooks: Hooks = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        check_kind("database", self.database, Database)
        check_kind("tasks", self.tasks, TaskRegistry)
        check_kind("options", self.options, WorkerOptions)
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
            self._run.settings.ending.begin(StopCause.STOPPED)

    def cancel(self) -> None:
        """Stop at once: interrupt running jobs and give them back. `run` returns as after a stop."""
        self._stopping.set()
        if self._run is not None:
            self._run.settings.ending.begin(StopCause.CANCELLED)
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
    def _running(self, *, drain: bool) -> Iterator[Run]:
        if self._run is not None:
            raise WorkerBusy("the worker is running already")
        if self._stopping.is_set():
            raise WorkerBusy("the worker was stopped; make a new one")
        self._run = Run(
            RunSettings(
                database=self.database,
                tasks=self.tasks,
                options=self.options,
                worker_id=self.worker_id,
                state=self.state,
                hooks=self._hooks,
                crontab=self.crontab,
                clock=self.clock,
                drains=drain,
                cancel_timeout=cancel_timeout_of(self.options.shutdown),
                ending=Ending(),
            )
        )
        try:
            yield self._run
        finally:
            self._run = None
            self._ended.set()
