"""Interception: calls interceptors before, after and around a handler, in its slot."""

from __future__ import annotations

import attrs
import trio

from trio_graphile._interceptors.calls import around
from trio_graphile._interceptors.chains import Chains
from trio_graphile._interceptors.runs import ask_about_run
from trio_graphile._model.failures import Failure
from trio_graphile._model.outcomes import Completed, Failed, Outcome
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.lanes import End, Ended, Lanes
from trio_graphile._worker.running_job import RunningJob, log_failure
from trio_graphile.hooks._job_events import JobStarted
from trio_graphile.hooks._questions import JobRun, JobRunEnd, Skip


class HandlerFailed(Exception):
    """Shows context managers that the handler failed, where nothing was raised here: in a process, say."""


class HandlerInterrupted(Exception):
    """Shows context managers that the handler was interrupted: by its timeout, say, or on request."""


def _show(end: Ended) -> None:
    """Raise, for context managers, if the handler did not return and nothing was raised."""
    if isinstance(end, Failure):
        raise HandlerFailed(end.text)
    if end is End.INTERRUPTED:
        raise HandlerInterrupted


@attrs.define(eq=False, kw_only=True)
class Interception:
    """Calls a handler as its lane does, if interceptors allow that."""

    _chains: Chains
    _worker_id: str
    _lanes: Lanes
    _emitter: Emitter

    async def call(self, running: RunningJob) -> Ended:
        """Call the handler, unless an interceptor prevents it. Enters and leaves the scope of the run."""
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
            answer: Skip | Failure | None = None
            with running.scope:
                answer = await ask_about_run(self._chains.before_job_run, about)
            if running.interruption is not None or running.scope.cancelled_caught:
                return End.INTERRUPTED
            if isinstance(answer, Skip):
                return End.RETURNED
            if answer is not None:
                return answer
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

    async def outcome_after(self, running: RunningJob, outcome: Outcome) -> Outcome:
        """Return the outcome of a run after its interceptors were asked; if they are interrupted, as it was.

        They are not asked about a run that was interrupted, or whose handler completed the job itself.
        """
        is_asked = running.has_begun and running.interruption is None and running.completion is None
        if not (self._chains.after_job_run and is_asked and isinstance(outcome, (Completed, Failed))):
            return outcome
        end = JobRunEnd(
            job=running.job,
            worker_id=self._worker_id,
            duration=trio.current_time() - running.started_at,
            error=outcome.error if isinstance(outcome, Failed) else None,
        )
        answer: Skip | Failure | None = None
        # A scope by which the run can still be interrupted; never a shield.
        with trio.CancelScope() as running.scope:  # noqa: TID251
            answer = await ask_about_run(self._chains.after_job_run, end)
        if isinstance(answer, Skip):
            return Completed(running.job)
        if answer is not None:
            log_failure(running.job, answer, None)
            return running.failed(answer)
        return outcome
