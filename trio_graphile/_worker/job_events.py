"""Job events: what is told of outcomes once they are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import attrs
import trio

from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import (
    Completed,
    Failed,
    Lost,
    Outcome,
    Removed,
    Returned,
    Settled,
    Snoozed,
)
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.running_job import Interruption, RunningJob
from trio_graphile.hooks._event import Event
from trio_graphile.hooks._job_events import (
    InterruptReason,
    JobCompleted,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobSnoozed,
    JobTakenAway,
)
from trio_graphile.hooks._worker_events import JobsReturned

ENDINGS: tuple[type[Event], ...] = (
    JobCompleted,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobSnoozed,
    JobTakenAway,
    JobsReturned,
)
_REASONS = {
    None: InterruptReason.SHUTDOWN,
    Interruption.FENCED: InterruptReason.LEASE,
    Interruption.CANCELLED: InterruptReason.REQUESTED,
}


@attrs.frozen
class Run:
    """A run that is over and whose outcome is not recorded yet. The duration is in seconds."""

    job: Job
    duration: float
    interruption: Interruption | None


@attrs.define(eq=False)
class JobEvents:
    """Emits the events about the ends of jobs, once their outcomes are certain."""

    _emitter: Emitter
    are_observed: bool = attrs.field(init=False)
    """Whether these events have observers. Callers ask this first: there is one call for each job."""
    _runs: dict[int, Run] = attrs.field(init=False, factory=dict)
    """The last run of each job whose outcome is not recorded yet, by the id of the job."""

    def __attrs_post_init__(self) -> None:
        self.are_observed = self._emitter.hears(*ENDINGS)

    def remember(self, running: RunningJob) -> None:
        """Remember a run that is over until its outcome is recorded."""
        job = running.job
        self._runs[job.id] = Run(job, trio.current_time() - running.started_at, running.interruption)

    def recorded(self, outcomes: Sequence[Outcome]) -> None:
        """Emit events about outcomes that are certain now."""
        untouched = 0
        for outcome in outcomes:
            run = self._runs.get(outcome.job.id)
            if run is not None and run.job is outcome.job:
                del self._runs[outcome.job.id]
            else:
                run = None  # it never ran, or is run again already
            if run is None and isinstance(outcome, Returned):
                untouched += 1
            else:
                self._emit(outcome, run)
        if untouched:
            self._emitter.emit(JobsReturned, count=untouched)

    def _emit(self, outcome: Outcome, run: Run | None) -> None:
        emit, job, duration = self._emitter.emit, outcome.job, 0.0 if run is None else run.duration
        match outcome:
            case Completed() | Settled():
                emit(JobCompleted, job=job, duration=duration)
            case Failed(error=error, permanent=permanent, delay=delay):
                if permanent or job.attempts >= job.max_attempts:
                    emit(JobFailedPermanently, job=job, error=error, duration=duration)
                else:
                    emit(JobFailed, job=job, error=error, duration=duration, retry_in=delay)
            case Returned():
                reason = _REASONS.get(None if run is None else run.interruption, InterruptReason.SHUTDOWN)
                emit(JobInterrupted, job=job, reason=reason, duration=duration)
            case Snoozed(delay=delay):
                emit(JobSnoozed, job=job, delay=delay, duration=duration)
            case Removed():
                emit(JobRemoved, job=job, duration=duration)
            case Lost():
                emit(JobTakenAway, job=job, duration=duration)
            case _:
                assert_never(outcome)
