"""Interception: what plugins do before, after and around a handler, in its slot."""

from __future__ import annotations

import attrs
import trio

from trio_graphile._interceptors.calls import around
from trio_graphile._interceptors.chains import Chains
from trio_graphile._interceptors.runs import ask_about_run
from trio_graphile._model.failures import Failure
from trio_graphile._model.outcomes import Completed, Failed, Outcome
from trio_graphile._tasks.context import Completion
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.lanes import End, Ended, Lanes
from trio_graphile._worker.running_job import RunningJob, log_failure
from trio_graphile.hooks._job_events import JobStarted
from trio_graphile.hooks._questions import JobRun, JobRunEnd, Skip


class HandlerFailed(Exception):
    """The handler failed without raising here: it ran in a process, say. For context managers to see."""


class HandlerInterrupted(Exception):
    """The handler was interrupted: by its timeout, on request, or since the job is not ours any more."""


def _show(end: Ended) -> None:
    """Raise for context managers what nobody has raised yet."""
    if isinstance(end, Failure):
        raise HandlerFailed(end.text)
    if end is End.INTERRUPTED:
        raise HandlerInterrupted


@attrs.define(eq=False, kw_only=True)
class Interception:
    """Calls handlers as a lane does, once interceptors let it."""

    _chains: Chains
    _worker_id: str
    _lanes: Lanes
    _emitter: Emitter

    async def call(self, running: RunningJob) -> Ended:
        """Call the handler, unless it is not wanted. The run's own scope is entered and left in here."""
        about = JobRun(job=running.job, worker_id=self._worker_id)
        end: Ended = End.INTERRUPTED
        try:
            with around(self._chains.around_job_run, about):
                end = await self._call_if_wanted(running, about)
                _show(end)
        except (HandlerFailed, HandlerInterrupted):
            return end
        return end

    async def _call_if_wanted(self, running: RunningJob, about: JobRun) -> Ended:
        if self._chains.before_job_run:
            verdict: Skip | Failure | None = None
            with running.scope:
                verdict = await ask_about_run(self._chains.before_job_run, about)
            if running.interruption is not None or running.scope.cancelled_caught:
                return End.INTERRUPTED
            if isinstance(verdict, Skip):
                return End.RETURNED
            if verdict is not None:
                return verdict
            running.scope = trio.CancelScope(deadline=running.scope.deadline)  # noqa: TID251  # as the one before
        return await self._begin(running)

    async def _begin(self, running: RunningJob) -> Ended:
        if running.task.lane != "async":
            self._note_start(running)
            return await self._lanes.call(running)
        with running.scope:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._note_start(running)
            return await self._lanes.call(running)
        return End.INTERRUPTED

    def _note_start(self, running: RunningJob) -> None:
        running.has_begun = True
        self._emitter.emit(JobStarted, job=running.job)

    async def judge(self, running: RunningJob, outcome: Outcome) -> Outcome:
        """Return what a run comes to once interceptors were asked. Interrupted, they leave it as it is.

        They are not asked about a run that was interrupted, or one that the handler has settled by itself.
        """
        is_asked = (
            running.has_begun and running.interruption is None and running.completion is Completion.NONE
        )
        if not (self._chains.after_job_run and is_asked and isinstance(outcome, (Completed, Failed))):
            return outcome
        end = JobRunEnd(
            job=running.job,
            worker_id=self._worker_id,
            duration=trio.current_time() - running.started_at,
            error=outcome.error if isinstance(outcome, Failed) else None,
        )
        verdict: Skip | Failure | None = None
        # In which the run can still be interrupted from outside; never a shield.
        with trio.CancelScope() as running.scope:  # noqa: TID251
            verdict = await ask_about_run(self._chains.after_job_run, end)
        if isinstance(verdict, Skip):
            return Completed(running.job)
        if verdict is not None:
            log_failure(running.job, verdict, None)
            return running.failed(verdict)
        return outcome
