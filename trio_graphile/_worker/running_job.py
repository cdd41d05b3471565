"""Running jobs: what interrupts them, and which outcome they have then."""

from __future__ import annotations

import enum
import logging
from typing import assert_never

import attrs
import trio

from trio_graphile._model.cancellation import CancelRequest, requested_outcome
from trio_graphile._model.failures import Failure, Verdict
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Failed, Lost, Outcome, Removed, Returned, Snoozed
from trio_graphile._model.statistics import RunningJobStatistics
from trio_graphile._worker.lanes import Call

logger = logging.getLogger("trio_graphile.worker")


class Interruption(enum.Enum):
    """Why one running job is interrupted, and not the whole worker."""

    LOST = "lost"
    """The job is not ours any more: its outcome cannot be recorded."""
    REMOVED = "removed"
    """The job was replaced or removed through its key, and its task wants to be interrupted then."""
    FENCED = "fenced"
    """Our lease is about to end, and others may take the job then."""
    CANCELLED = "cancelled"
    """Somebody requested it."""


@attrs.define(eq=False)
class RunningJob(Call):
    """A job whose handler runs."""

    started_at: float
    """By Trio's clock."""
    interruption: Interruption | None = attrs.field(default=None, kw_only=True)
    request: CancelRequest | None = attrs.field(default=None, kw_only=True)
    """The request to cancel the job, if there is one."""
    has_begun: bool = attrs.field(default=False, kw_only=True)
    """Whether the handler was called. Set only where interceptors may prevent that."""

    def interrupt(self, interruption: Interruption) -> None:
        """Interrupt the handler, unless it is interrupted already."""
        if self.interruption is None:
            self.interruption = interruption
            self.scope.cancel()

    def statistics(self) -> RunningJobStatistics:
        """Return which job it is and how far it has come."""
        return RunningJobStatistics(
            job=self.job, seconds=trio.current_time() - self.started_at, progress=self.progress
        )

    def interrupted(self) -> Outcome:
        """Return the outcome of a run that was interrupted: alone, by its timeout, or with the worker."""
        timeout = self.task.options.timeout
        match self.interruption:
            case None if timeout is not None and self.scope.cancel_called:
                failure = Failure(f"TimeoutError: the handler took longer than its timeout of {timeout:g} s")
                log_failure(self.job, failure, None)
                return self.failed(failure)
            case Interruption.LOST:
                return Lost(self.job)
            case Interruption.REMOVED:
                return Removed(self.job)
            case Interruption.CANCELLED:
                return self.as_requested() or Returned(self.job, payload_json=self.payload_json)
            case None | Interruption.FENCED:
                return Returned(self.job, payload_json=self.payload_json)
            case _:
                assert_never(self.interruption)

    def as_requested(self) -> Outcome | None:
        """Return the outcome that a request to cancel the job asks for; None if there is no request."""
        if self.request is None:
            return None
        return requested_outcome(self.job, self.request, self.payload_json)

    def failed(self, failure: Failure) -> Outcome:
        """Return the outcome of a run whose handler failed."""
        payload_json = self.payload_json if failure.payload_json is None else failure.payload_json
        match failure.verdict:
            case Verdict.SNOOZE:
                return Snoozed(self.job, delay=failure.seconds, payload_json=payload_json)
            case Verdict.RETRY_AFTER:
                delay: float | None = failure.seconds
            case Verdict.RETRY | Verdict.PERMANENT:
                delay = self.task.options.retry_delay(self.job.attempts)
            case _:
                assert_never(failure.verdict)
        return Failed(
            self.job,
            failure.text,
            delay=delay,
            permanent=failure.verdict is Verdict.PERMANENT,
            payload_json=payload_json,
        )


def log_failure(job: Job, failure: Failure, error: BaseException | None) -> None:
    """Log that a run failed, or that its job is snoozed."""
    fields = {"job_id": job.id, "task": job.task_identifier, "attempt": job.attempts}
    match failure.verdict:
        case Verdict.SNOOZE:
            logger.info(
                "job %d (%s) snoozes %g s", job.id, job.task_identifier, failure.seconds, extra=fields
            )
            return
        case Verdict.RETRY | Verdict.RETRY_AFTER:
            retried = job.attempts < job.max_attempts
        case Verdict.PERMANENT:
            retried = False
        case _:
            assert_never(failure.verdict)
    logger.log(
        logging.WARNING if retried else logging.ERROR,
        "job %d (%s) failed, attempt %d of %d%s",
        job.id,
        job.task_identifier,
        job.attempts,
        job.max_attempts,
        "" if error is not None else f": {failure.text}" + (f"\n{failure.trace}" if failure.trace else ""),
        exc_info=error,
        extra=fields,
    )
