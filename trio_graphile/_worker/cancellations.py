"""Cancellations: hears that somebody wants a job of this worker to be cancelled, and has it done.

A request is obeyed once, also where the database could not be told so in time.
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
    """Looks when it is nudged, and by itself now and then: a nudge may be lost, or nobody may listen."""

    _session: Executor
    """That of the claims."""
    _worker_id: str
    _ledger: Ledger
    """Says which jobs are held."""
    _runner: Runner
    _local_queue: LocalQueue
    _recorder: Recorder
    _interval: float
    """How often to look by itself while there are jobs, in seconds."""
    _is_nudged: bool = attrs.field(init=False, default=False)
    _nudged: Bell = attrs.field(init=False, factory=Bell)
    _obeyed: set[CancelRequest] = attrs.field(init=False, factory=set)
    """Requests that may still stand in the table."""

    def nudge(self) -> None:
        """Take notice that there may be a request."""
        self._is_nudged = True
        self._nudged.ring()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Obey until cancelled."""
        while True:
            if not self._is_nudged:  # else meanwhile
                with trio.move_on_after(self._interval):
                    await self._nudged.wait()
            if self._is_nudged or not self._ledger.is_empty:
                self._is_nudged = False
                try:
                    await self._obey()
                except StatementFailed as error:
                    logger.error("cancellations cannot be looked for, or forgotten: %s", error)  # noqa: TRY400  # as said

    async def _obey(self) -> None:
        requests = await persist(self._look, what="looking for cancellations")
        for request in requests:
            job = self._ledger.job(request.job_id)
            if job is not None and request not in self._obeyed:
                self._cancel(job, request)
        self._obeyed = set(requests)
        if requests:
            await persist(partial(self._forget, requests), what="forgetting cancellations")

    async def _look(self) -> list[CancelRequest]:
        async with self._ledger.claiming:  # no claim is under way: what we hold is known
            return await cancellations.get_cancel_requests(self._session, self._worker_id)

    async def _forget(self, requests: Sequence[CancelRequest]) -> None:
        async with self._ledger.claiming:
            await cancellations.forget_cancel_requests(self._session, self._worker_id, requests)

    def _cancel(self, job: Job, request: CancelRequest) -> None:
        """Cancel a job on request, whether it runs or waits for a slot; if it has ended, it is too late."""
        if not self._runner.cancel(job, request) and self._local_queue.withdraw(job):
            self._recorder.put(requested_outcome(job, request))
