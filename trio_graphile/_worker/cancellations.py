"""Cancellations: looks for requests to cancel jobs of this worker, and carries them out.

Each request is carried out once, even if it could not be deleted from its table in time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import attrs
import trio

from trio_graphile._database import cancellations
from trio_graphile._database.connection import Executor
from trio_graphile._database.session import persist
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.bell import Bell
from trio_graphile._model.cancellation import CancelRequest, requested_outcome
from trio_graphile._model.jobs import Job
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.runner import Runner

logger = logging.getLogger("trio_graphile.worker")


@attrs.define(eq=False, kw_only=True)
class Cancellations:
    """Looks when it is nudged, and also at intervals: a nudge may be lost, or the worker may not listen."""

    _session: Executor
    """The session of the claims."""
    _worker_id: str
    _ledger: Ledger
    """Says which jobs are held."""
    _runner: Runner
    _local_queue: LocalQueue
    _recorder: Recorder
    _interval: float
    """The time between two looks while jobs are held, in seconds."""
    _is_nudged: bool = attrs.field(init=False, default=False)
    _nudged: Bell = attrs.field(init=False, factory=Bell)
    _carried_out: set[CancelRequest] = attrs.field(init=False, factory=set)
    """Requests that were carried out and may still be in the table."""

    def nudge(self) -> None:
        """Look soon: there may be a request."""
        self._is_nudged = True
        self._nudged.ring()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Carry out requests until cancelled."""
        while True:
            if not self._is_nudged:  # else it was nudged during the last look
                with trio.move_on_after(self._interval):
                    await self._nudged.wait()
            if self._is_nudged or not self._ledger.is_empty:
                self._is_nudged = False
                try:
                    await self._carry_out_requests()
                except StatementFailed as error:
                    logger.error("requests to cancel jobs cannot be read or deleted: %s", error)  # noqa: TRY400  # as said

    async def _carry_out_requests(self) -> None:
        requests = await persist(self._look, what="looking for cancellations")
        for request in requests:
            job = self._ledger.job(request.job_id)
            if job is not None and request not in self._carried_out:
                self._cancel(job, request)
        self._carried_out = set(requests)
        if requests:
            await persist(partial(self._forget, requests), what="forgetting cancellations")

    async def _look(self) -> list[CancelRequest]:
        async with self._ledger.claiming:  # no claim is under way, so all our jobs are known
            return await cancellations.get_cancel_requests(self._session, self._worker_id)

    async def _forget(self, requests: Sequence[CancelRequest]) -> None:
        async with self._ledger.claiming:
            await cancellations.forget_cancel_requests(self._session, self._worker_id, requests)

    def _cancel(self, job: Job, request: CancelRequest) -> None:
        """Interrupt a job that runs, or take it out of the local queue. It may have ended before."""
        if not self._runner.cancel(job, request) and self._local_queue.withdraw(job):
            self._recorder.put(requested_outcome(job, request))
