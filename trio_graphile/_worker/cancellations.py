"""Cancellations: hears that somebody wants a job of this worker to be cancelled, and has it done.

A request is obeyed once, also where the database could not be told so in time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from trio_graphile._database.session import persist
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.cancellation import CancelRequest
from trio_graphile._model.jobs import Job
from trio_graphile._worker.bell import Bell
from trio_graphile._worker.ledger import Ledger

logger = logging.getLogger("trio_graphile.worker")


@attrs.define(eq=False, kw_only=True)
class Cancellations:
    """Looks when it is nudged, and by itself now and then: a nudge may be lost, or nobody may listen."""

    _look: Callable[[], Awaitable[list[CancelRequest]]]
    _forget: Callable[[Sequence[CancelRequest]], Awaitable[None]]
    """Says that requests were heard."""
    _cancel: Callable[[Job, CancelRequest], None]
    _ledger: Ledger
    """Says which jobs are held."""
    _interval: float
    """How often to look by itself while there are jobs, in seconds."""
    _is_nudged: bool = False
    _nudged: Bell = attrs.field(factory=Bell)
    _obeyed: set[CancelRequest] = attrs.field(factory=set)
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
            await persist(lambda: self._forget(requests), what="forgetting cancellations")
