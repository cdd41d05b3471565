"""Finished runs: how runs of handlers ended, as values that tests look at."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeAlias, TypeVar, assert_never

import attrs

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

PayloadT = TypeVar("PayloadT")

RunOutcome: TypeAlias = Literal["completed", "failed", "snoozed", "returned", "removed", "lost"]
"""How a run ended. `returned` means that it was interrupted, and the job went back with its attempt."""


class RunFailed(Exception):
    """A run failed, and there is no exception of the handler to raise.

    It ran into its timeout, failed in a process, or returned that some items of a batch failed.
    """


@attrs.frozen(kw_only=True)
class FinishedRun:
    """One run of a job, and how it ended."""

    job: Job
    """The job as it was claimed."""
    outcome: RunOutcome
    last_error: str | None = None
    """The text that is stored, if the run failed."""
    error: BaseException | None = attrs.field(default=None, repr=False)
    """What the handler raised, if the run failed; a `RunFailed` where it raised nothing."""
    delay: float | None = None
    """The seconds until the next attempt, or until a snoozed job runs again. None if there is no next time,
    or if the database computes the delay from the number of attempts."""
    is_permanent: bool = False
    """Whether the run failed and no attempt is left."""

    @property
    def task(self) -> str:
        """The identifier of the task."""
        return self.job.task_identifier

    def raise_failure(self) -> None:
        """Raise the error of a run that failed, with the traceback of the handler."""
        if self.error is None:
            return
        job, notes = self.job, getattr(self.error, "__notes__", ())
        note = f"job {job.id} ({job.task_identifier}) failed, attempt {job.attempts} of {job.max_attempts}"
        if note not in notes:
            self.error.add_note(note)
        raise self.error


@attrs.frozen(kw_only=True)
class SingleRun(FinishedRun, Generic[PayloadT]):
    """A run by `run_job`, with what the handler left in its context."""

    checkpoint: PayloadT | None = None
    """The payload with which the job would run again: the last checkpoint, or the items of a batch that
    failed. None if it would be the same, or if the run completed."""
    progress: Any = None
    """The last value that the handler reported."""


def finished_run(outcome: Outcome, error: BaseException | None) -> FinishedRun:
    """Return the run that ended so. `error` is what the handler raised, if it did."""
    job = outcome.job
    match outcome:
        case Completed() | Settled():
            return FinishedRun(job=job, outcome="completed")
        case Failed(error=text, delay=delay, permanent=permanent):
            is_last = permanent or job.attempts >= job.max_attempts
            return FinishedRun(
                job=job,
                outcome="failed",
                last_error=text,
                error=RunFailed(text) if error is None else error,
                delay=None if is_last else delay,
                is_permanent=is_last,
            )
        case Snoozed(delay=delay):
            return FinishedRun(job=job, outcome="snoozed", delay=delay)
        case Returned():
            return FinishedRun(job=job, outcome="returned")
        case Removed():
            return FinishedRun(job=job, outcome="removed")
        case Lost():
            return FinishedRun(job=job, outcome="lost")
        case _:
            assert_never(outcome)


def next_payload(outcome: Outcome) -> str | None:
    """Return the JSON with which the job would run again; None if it is the same, or the run was the last."""
    match outcome:
        case Failed() | Snoozed() | Returned():
            return outcome.payload_json
        case Completed() | Settled() | Removed() | Lost():
            return None
        case _:
            assert_never(outcome)
