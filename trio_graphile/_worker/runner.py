"""The runner: runs a job, from its payload to its outcome. Only here are exceptions of handlers caught."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import trio

from trio_graphile._exceptions import JobLost, UnknownTask
from trio_graphile._interceptors.raised import split_raised
from trio_graphile._model.cancellation import CancelRequest
from trio_graphile._model.failures import Failure, failure_of
from trio_graphile._model.groups import leaves
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Completed, Failed, Lost, Outcome, Settled
from trio_graphile._model.statistics import RunningJobStatistics
from trio_graphile._tasks.context import CURRENT_JOB, Completion
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._tasks.task import Task
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.interception import Interception
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.lanes import RETURNED, End, Lanes
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.running_job import Interruption, RunningJob, log_failure
from trio_graphile._worker.surroundings import Surroundings
from trio_graphile._worker.task_totals import TaskTotals
from trio_graphile.hooks._job_events import JobStarted, JobTaken

logger = logging.getLogger("trio_graphile.worker")


@attrs.define(eq=False, kw_only=True)
class Runner:
    """Runs jobs: each slot calls `run_all`."""

    _tasks: TaskRegistry
    _local_queue: LocalQueue
    """Where jobs are taken from."""
    _lanes: Lanes
    _interception: Interception | None = None
    """Calls interceptors before and after a handler; None if there are none."""
    _surroundings: Surroundings
    _recorder: Recorder
    _announcements: Announcements
    """Is told when a handler has completed its job and goes on: the next job of its named queue may run."""
    _job_events: JobEvents
    _emitter: Emitter
    _totals: TaskTotals = attrs.field(factory=TaskTotals)
    """Counts runs and adds up their durations, by task."""
    _emits_taken: bool = attrs.field(init=False)
    """Whether `JobTaken` has observers."""
    _emits_started: bool = attrs.field(init=False)
    """Whether `JobStarted` has observers, and interception does not emit it."""
    _now: Callable[[], float] = attrs.field(
        init=False, factory=lambda: trio.lowlevel.current_clock().current_time
    )
    """As `trio.current_time`, which takes twice as long: called twice for each run."""
    _running: dict[int, RunningJob] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._emits_taken = self._emitter.hears(JobTaken)
        self._emits_started = self._interception is None and self._emitter.hears(JobStarted)

    @trio.lowlevel.enable_ki_protection
    async def run_all(self) -> None:
        """Run one job after the other, until there are no more."""
        while True:
            # Interrupts handlers, and is replaced once it has interrupted one. Never a shield.
            with trio.CancelScope() as scope:  # noqa: TID251
                while True:
                    job = await self._local_queue.take()
                    if job is None:
                        return
                    if self._emits_taken:
                        self._emitter.emit(JobTaken, job=job)
                    if await self.run(job, scope):
                        break

    async def run(self, job: Job, scope: trio.CancelScope) -> bool:  # noqa: TID251  # as above
        """Run the handler of a job and record the outcome; return whether `scope` is used up.

        Of what the handler raises, only cancellation and `KeyboardInterrupt` are raised on. When it is
        cancelled, it cancels the handler, and gives the job back with its attempt unless the handler ended
        all the same.
        """
        try:
            task = self._tasks[job.task_identifier]
        except UnknownTask as error:
            log_failure(job, failure := failure_of(error), error)
            self._recorder.put(Failed(job, failure.text))
            return False
        running = self._prepare(task, job, scope)
        self._running[job.id] = running
        outcome: Outcome | None = None  # still None if nothing but `Cancelled` was raised
        token = CURRENT_JOB.set(job)
        if self._emits_started:
            self._emitter.emit(JobStarted, job=job)
        try:
            try:
                end = await (self._interception or self._lanes).call(running)
                outcome = Completed(job) if end is RETURNED else self._outcome(running, end)
            except BaseException as error:  # noqa: BLE001, ASYNC103  # a handler may raise anything
                raised, further = split_raised(error)
                if raised is not None:
                    outcome = self._raised(running, raised)
                if further is not None:
                    raise further from None  # noqa: ASYNC104  # it has the cancellation, if there is one
            if self._interception is not None and outcome is not None:
                outcome = await self._interception.outcome_after(running, outcome)
        finally:
            CURRENT_JOB.reset(token)
            if self._running.get(job.id) is running:  # else the job was taken from us and claimed by us again
                del self._running[job.id]
            if outcome is None:
                outcome = running.interrupted()
            if self._job_events.are_observed:
                self._job_events.remember(running)
            if running.completion is None:
                self._totals.add(job, self._now() - running.started_at, outcome)
                self._recorder.put(outcome)
            else:
                self._put_completed(running, outcome)
        return running.interruption is not None or task.options.timeout is not None

    def _prepare(self, task: Task[Any], job: Job, scope: trio.CancelScope) -> RunningJob:  # noqa: TID251
        if task.lane != "async" or self._interception is not None:
            scope = trio.CancelScope()  # noqa: TID251  # as above; `call` enters it
        running = RunningJob(task, job, scope, self._now())
        if task.wants_context:
            running.context = self._surroundings.context(job, running, task.to_json)
            if job.queue_name is not None:
                running.on_completed = self._announcements.queue_freed
        if task.options.timeout is not None:
            scope.deadline = running.started_at + task.options.timeout
        return running

    def _put(self, running: RunningJob, outcome: Outcome, *, maybe_completed: bool = False) -> None:
        self._totals.add(running.job, self._now() - running.started_at, outcome)
        self._recorder.put(outcome, maybe_completed=maybe_completed)

    def _put_completed(self, running: RunningJob, outcome: Outcome) -> None:
        """Record the outcome of a job that its handler has completed itself, or may have completed."""
        if running.completion is Completion.DONE:
            self._put(running, Settled(running.job))
            return
        if isinstance(outcome, Completed):  # but perhaps without the effects of its transaction
            outcome = Failed(running.job, "nobody knows whether its transaction was committed")
        self._put(running, outcome, maybe_completed=True)

    def _outcome(self, running: RunningJob, end: End | Failure) -> Outcome:
        """Return the outcome of a run whose handler neither returned nor raised."""
        if isinstance(end, Failure):
            log_failure(running.job, end, None)
            return running.as_requested() or running.failed(end)
        return running.interrupted()

    def _raised(self, running: RunningJob, error: BaseException) -> Outcome:
        """Return the outcome of a run whose handler raised."""
        job = running.job
        if all(isinstance(leaf, JobLost) and leaf.job_id == job.id for leaf in leaves(error)):
            if running.completion is not None:
                return running.interrupted()
            logger.error("job %d (%s) was taken from us while it ran", job.id, job.task_identifier)
            return Lost(job)
        failure = running.task.failure(error)
        if running.completion is Completion.DONE:
            logger.error("job %d (%s) had completed, and raised", job.id, job.task_identifier, exc_info=error)
        else:
            log_failure(job, failure, error)
        return running.as_requested() or running.failed(failure)

    # --- running jobs, from outside -------------------------------------------------------------

    def statistics(self) -> tuple[RunningJobStatistics, ...]:
        """Describe the runs that are under way, the oldest first."""
        return tuple(running.statistics() for running in self._running.values())

    @property
    def running(self) -> tuple[RunningJob, ...]:
        """The runs that are under way, the oldest first. From any thread: one step of the interpreter."""
        return tuple(self._running.values())

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs that run, the oldest first."""
        return tuple(running.job for running in self._running.values())

    def lose(self, job: Job) -> None:
        """Interrupt the run of a job that is not ours any more."""
        for running in self._runs_of(job):
            # A job that its handler has completed is not ours any more, either.
            if running.completion is None:
                logger.error("job %d (%s) was taken from us while it ran", job.id, job.task_identifier)
                running.interrupt(Interruption.LOST)

    def detach(self, job: Job) -> None:
        """Interrupt the run of a job that was replaced or removed through its key, if its task wants that."""
        for running in self._runs_of(job):
            if running.task.options.on_replaced == "cancel":
                running.interrupt(Interruption.REMOVED)

    def cancel(self, job: Job, request: CancelRequest) -> bool:
        """Interrupt the run of a job on request; return whether the job runs."""
        for running in self._runs_of(job):
            logger.warning(
                "job %d (%s) is cancelled on request: %s", job.id, job.task_identifier, request.reason
            )
            running.request = request
            running.interrupt(Interruption.CANCELLED)
            return True
        return False

    def fence(self) -> None:
        """Interrupt all runs: others may take their jobs soon."""
        for running in self._running.values():
            running.interrupt(Interruption.FENCED)

    def _runs_of(self, job: Job) -> Iterator[RunningJob]:
        running = self._running.get(job.id)
        if running is not None and running.job is job:
            yield running
