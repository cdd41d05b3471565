"""The runner: one job, from its payload to its outcome. The one place that catches what handlers raise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs

from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Completed, Failed, Outcome, Returned, describe_error
from trio_graphile._tasks import JobContext, TaskRegistry

logger = logging.getLogger("trio_graphile.worker")


@attrs.frozen(kw_only=True)
class Runner:
    """Runs jobs, one per call and slot."""

    _tasks: TaskRegistry
    _make_context: Callable[[Job], JobContext]
    _record: Callable[[Outcome], None]
    """Takes the outcome without a checkpoint, so that no cancellation can come between."""

    async def run(self, job: Job) -> None:
        """Run a job's handler and record the outcome. Raises nothing of the handler's but cancellation.

        When cancelled, the handler is, and the job goes back with its attempt unless it ended all the same.
        """
        outcome: Outcome = Returned(job)  # until we know better; a bare Cancelled passes straight through
        try:
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
            self._record(outcome)


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
