"""The runner: one job, from its payload to its outcome. The one place that catches what handlers raise."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any

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
    describe_error,
)
from trio_graphile._tasks import JobContext, TaskRegistry

logger = logging.getLogger("trio_graphile.worker")


class Interruption(enum.Enum):
    """Why a single running job is interrupted."""

    LOST = "lost"
    """The job is not ours any more: whatever comes of it cannot be recorded."""
    REMOVED = "removed"
    """The job was replaced or removed through its key, and its task wants to end then."""
    FENCED = "fenced"
    """Our lease is about to end, and others may take the job."""


@attrs.define(eq=False)
class RunningJob:
    """A job whose handler runs, and the means to interrupt it."""

    job: Job
    # Kept to be cancelled by somebody else; never a shield.
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251
    interruption: Interruption | None = None

    def outcome(self) -> Outcome:
        """What a run comes to that was interrupted."""
        match self.interruption:
            case Interruption.LOST:
                return Lost(self.job)
            case Interruption.REMOVED:
                return Removed(self.job)
            case _:
                return Returned(self.job)


@attrs.define(eq=False, kw_only=True)
class Runner:
    """Runs jobs, one per call and slot."""

    _tasks: TaskRegistry
    _make_context: Callable[[Job], JobContext]
    _record: Callable[[Outcome], None]
    """Takes the outcome without a checkpoint, so that no cancellation can come between."""
    _running: dict[int, RunningJob] = attrs.field(factory=dict)

    async def run(self, job: Job) -> None:
        """Run a job's handler and record the outcome. Raises nothing of the handler's but cancellation.

        When cancelled, the handler is, and the job goes back with its attempt unless it ended all the same.
        """
        self._running[job.id] = running = RunningJob(job)
        outcome: Outcome | None = None  # until we know better; a bare Cancelled passes straight through
        try:
            with running.scope:
                task = self._tasks[job.task_identifier]
                await task.call(task.from_json(job.payload_json), self._make_context(job))
                outcome = Completed(job)
        except Exception as error:  # noqa: BLE001  # a handler may raise anything
            outcome = _failed(job, error)
        except BaseExceptionGroup as group:
            failure, rest = group.split(Exception)
            if failure is not None:
                outcome = _failed(job, failure)
            if rest is not None:
                raise rest from None  # cancellation and KeyboardInterrupt are never ours to swallow
        finally:
            if self._running.get(job.id) is running:  # else it was taken from us and claimed by us again
                del self._running[job.id]
            self._record(outcome if outcome is not None else running.outcome())

    def lose(self, job: Job) -> None:
        """Interrupt the run of a job that is not ours any more."""
        running = self._running.get(job.id)
        if running is not None and running.job is job:
            logger.error("job %d (%s) was taken from us while it ran", job.id, job.task_identifier)
            _interrupt(running, Interruption.LOST)

    def detach(self, job: Job) -> None:
        """Interrupt the run of a job that was replaced or removed through its key, if its task wants that."""
        running = self._running.get(job.id)
        if (
            running is not None
            and running.job is job
            and self._tasks[job.task_identifier].on_replaced == "cancel"
        ):
            _interrupt(running, Interruption.REMOVED)

    def fence(self) -> None:
        """Interrupt all runs: others may take their jobs soon."""
        for running in self._running.values():
            _interrupt(running, Interruption.FENCED)


def _interrupt(running: RunningJob, interruption: Interruption) -> None:
    if running.interruption is None:
        running.interruption = interruption
        running.scope.cancel()


def _failed(job: Job, error: BaseException) -> Failed:
    retried = job.attempts < job.max_attempts
    logger.log(
        logging.WARNING if retried else logging.ERROR,
        "job %d (%s) failed, attempt %d of %d",
        job.id,
        job.task_identifier,
        job.attempts,
        job.max_attempts,
        exc_info=error,
        extra=_fields(job),
    )
    return Failed(job, describe_error(error))


def _fields(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "task": job.task_identifier, "attempt": job.attempts}
