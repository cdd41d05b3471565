"""The listener: hears that jobs were added, and announces them. While it is deaf, the worker polls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from trio_graphile._database.cancellations import CANCEL_CHANNEL
from trio_graphile._database.connection import Connection
from trio_graphile._database.listening import Listening
from trio_graphile._database.notifications import (
    JOBS_INSERT,
    WORKER_MIGRATE,
    announced_jobs,
    is_breaking,
)
from trio_graphile._database.schema import is_superseded
from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.outcomes import StopCause
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.cancellations import Cancellations
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.ending import Ending
from trio_graphile.hooks._worker_events import ListenConnecting, ListenLost, ListenRestored


@attrs.define(eq=False, kw_only=True)
class Listener(Listening):
    """Hears notifications of new jobs, of requests to cancel jobs, and of new revisions of the schema."""

    _worker_id: str
    _announcements: Announcements
    _cancellations: Cancellations
    _ending: Ending
    """Begins when somebody installs a revision of the schema that this worker cannot use."""
    _emitter: Emitter

    def channels(self) -> Mapping[str, Callable[[str], None]]:
        """Return the channels of a worker."""
        return {
            JOBS_INSERT: self._hear_jobs,
            WORKER_MIGRATE: self._hear_migration,
            f"{CANCEL_CHANNEL}{self._worker_id}": self._hear_cancellation,
        }

    async def restored(self, connection: Connection) -> None:
        """Look for what happened while nobody listened."""
        if await is_superseded(connection):
            self._ending.begin(StopCause.SUPERSEDED)
        self._emitter.emit(ListenRestored)
        self._announcements.add(1)
        self._cancellations.nudge()

    def connecting(self, attempt: int) -> None:
        """Emit an event."""
        self._emitter.emit(ListenConnecting, attempt=attempt)

    def lost(self, error: DatabaseError, delay: float) -> None:
        """Emit an event."""
        self._emitter.emit(ListenLost, error=str(error), retry_in=delay)

    def _hear_jobs(self, payload: str) -> None:
        count = announced_jobs(payload)
        if count > 0:
            self._announcements.add(count)

    def _hear_migration(self, payload: str) -> None:
        if is_breaking(payload):
            self._ending.begin(StopCause.SUPERSEDED)

    def _hear_cancellation(self, _payload: str) -> None:
        self._cancellations.nudge()
