"""Runs what is due, and what becomes due, and tells how each run ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import attrs
import trio

from trio_graphile._database.database import Database
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import WorkerOptions
from trio_graphile._model.outcomes import Completed, Failed, Lost, Outcome, Removed, Returned, Snoozed
from trio_graphile._model.validators import check_kind, described
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.interception import HandlerFailed, HandlerInterrupted
from trio_graphile._worker.worker import Worker
from trio_graphile.hooks._event import JobEvent
from trio_graphile.hooks._job_events import (
    JobCompleted,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobSnoozed,
    JobTakenAway,
)
from trio_graphile.hooks._questions import JobRun
from trio_graphile.hooks._registry import Hooks, Plugin
from trio_graphile.testing._due_times import move_due_times, time_now, time_until_due
from trio_graphile.testing._runs import FinishedRun, finished_run

_ONE_BY_ONE = WorkerOptions(concurrency=1)
_MOST_EVENTS = 10_000_000
"""So many events may wait for us: a run whose event is dropped would be missing."""
_RESTORE_TIMEOUT = 10.0


async def run_until_empty(
    database: Database,
    tasks: TaskRegistry,
    options: WorkerOptions = _ONE_BY_ONE,
    *,
    until: datetime | timedelta | None = None,
    state: Any = None,
    plugins: Sequence[Plugin] = (),
    raise_failures: bool = True,
) -> list[FinishedRun]:
    """Run the jobs that are due, and those that these add, until none is due. Return the runs in order.

    With `until`, also run what becomes due by then (a `timedelta` counts from now), each job after those
    that are due before it: retries, snoozed jobs, jobs of tomorrow. Nothing waits for that: the due times are
    moved, not the clock. So a job that a handler adds for in an hour is due an hour after the handler's own
    due time, while `context.job.run_at` is about now. What is left at the end has its own due time again.

    A run that fails raises the handler's exception, with its traceback, once all jobs that are due have run;
    several are raised as a group. With `raise_failures=False` they are `FinishedRun.error`.

    `options`, `state` and `plugins` are those of the worker. By default it has one slot, so that jobs run one
    after the other, in their order. Raises what `Worker.run_once` raises, and `OptionInvalid` for a time
    without a zone.
    """
    check_kind("options", options, WorkerOptions)
    runs = _Runs()
    options = attrs.evolve(options, observers=attrs.evolve(options.observers, queue_size=_MOST_EVENTS))
    worker = Worker(database, tasks, options, state=state, plugins=[*plugins, runs])
    end = None if until is None else await _end_of(database, until)
    moved = timedelta()
    try:
        while True:
            await worker.run_once()
            if raise_failures:
                _raise_failures(runs.finished)
            step = None if end is None else await time_until_due(database, end - moved)
            if step is None:
                return runs.finished
            await move_due_times(database, -step)
            moved += step
    finally:
        if moved:
            with trio.move_on_after(_RESTORE_TIMEOUT, shield=True):
                await move_due_times(database, moved)


async def _end_of(database: Database, until: datetime | timedelta) -> datetime:
    if isinstance(until, timedelta):
        return await time_now(database) + until
    if not isinstance(until, datetime):
        raise OptionInvalid("until", f"a datetime or a timedelta is needed, not {described(until)}")
    if until.utcoffset() is None:
        raise OptionInvalid("until", f"{until} has no time zone; use datetime.now(UTC) and the like")
    return until


def _raise_failures(runs: Sequence[FinishedRun]) -> None:
    failed = [run for run in runs if run.error is not None]
    if len(failed) == 1:
        failed[0].raise_failure()
    errors = []
    for run in failed:
        try:
            run.raise_failure()
        except BaseException as error:  # noqa: BLE001, ASYNC103  # it has a note now, and is raised below
            errors.append(error)
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} runs failed", errors)


@attrs.define(eq=False)
class _Runs:
    """A plugin that notes each run with its outcome, and with what its handler raised."""

    _begun: dict[int, Job] = attrs.field(factory=dict)
    """The jobs whose runs have begun, in this order, by their identity: a job may run more than once."""
    _raised: dict[int, BaseException] = attrs.field(factory=dict)
    _ended: dict[int, FinishedRun] = attrs.field(factory=dict)

    @property
    def finished(self) -> list[FinishedRun]:
        """The runs whose outcomes are recorded, in the order in which they began."""
        return [self._ended[identity] for identity in self._begun if identity in self._ended]

    def register(self, hooks: Hooks, /) -> None:
        hooks.around_job_run(self._around)
        hooks.on(JobEvent, self._note)

    @contextmanager
    def _around(self, run: JobRun) -> Iterator[None]:
        self._begun[id(run.job)] = run.job
        try:
            yield
        except (HandlerFailed, HandlerInterrupted):  # nothing was raised
            raise
        except BaseException as error:
            self._raised[id(run.job)] = error
            raise

    def _note(self, event: JobEvent) -> None:
        outcome = _outcome_of(event)
        if outcome is not None:
            raised = self._raised.get(id(event.job))
            self._ended[id(event.job)] = finished_run(outcome, raised)


def _outcome_of(event: JobEvent) -> Outcome | None:
    """Return the outcome that an event is about; None if it is about something else."""
    job = event.job
    match event:
        case JobCompleted():
            return Completed(job)
        case JobFailed(error=error, retry_in=delay):
            return Failed(job, error, delay=delay)
        case JobFailedPermanently(error=error):
            return Failed(job, error, permanent=True)
        case JobSnoozed(delay=delay):
            return Snoozed(job, delay=delay)
        case JobInterrupted():
            return Returned(job)
        case JobRemoved():
            return Removed(job)
        case JobTakenAway():
            return Lost(job)
        case _:
            return None
