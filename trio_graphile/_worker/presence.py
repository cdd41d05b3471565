"""Presence: keeps what the database knows of this worker: that it is alive, what it is, and what it holds."""

from __future__ import annotations

import contextlib
import logging

import attrs

from trio_graphile._database import held_rows, stale_locks, worker_registry
from trio_graphile._database.connection import Executor
from trio_graphile._database.database import Database
from trio_graphile._database.inspection import list_hidden
from trio_graphile._database.notifications import announce
from trio_graphile._database.schema import migrate
from trio_graphile._database.session import Session, persist
from trio_graphile._exceptions import DatabaseError, DatabaseUnavailable
from trio_graphile._model.diagnosis import POLICIES, hiding
from trio_graphile._model.jobs import Job
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.brief_session import brief_session
from trio_graphile._worker.claims import reconcile
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.heartbeat import Heartbeat
from trio_graphile._worker.ledger import Ledger

logger = logging.getLogger("trio_graphile.worker")


@attrs.frozen
class Renewed:
    """Which locks a renewal asked for, and what it found."""

    asked: tuple[Job, ...]
    found: worker_registry.Renewal


@attrs.define(eq=False, kw_only=True)
class Presence:
    """Arrives before all other services of the worker start, and leaves after they have ended."""

    _database: Database
    _tasks: TaskRegistry
    _worker_id: str
    _ledger: Ledger
    _claiming: Session
    """The session of the claims."""
    _recording: Session
    """The session of the recorder, which has written all it can when the worker leaves."""
    _heartbeat: Heartbeat
    _server_clock: ServerClock
    _cancel_timeout: float
    """How long a statement may take to end after a cancellation, in seconds."""
    _registers: bool
    """Whether the worker is to be registered, so that others see that it is alive."""
    is_registered: bool = attrs.field(init=False, default=False)
    """Whether it is registered. Known once it has arrived: an older schema has no registry."""
    _is_unsaid: bool = attrs.field(init=False, default=False)
    """Whether the server refused the text of the last heartbeat."""

    async def arrive(self, *, releases_old_locks: bool) -> None:
        """Open the sessions, install the schema if it is missing, and register the tasks and the worker.

        `releases_old_locks` says to release locks that are hours old: a worker that drains has no sweeper.
        """
        await self._claiming.open()
        await self._recording.open()
        await self._try_direct_session()
        # In a session of its own: it may wait for locks of others, and can be given up then.
        async with brief_session(self._database, "start", self._cancel_timeout) as connection:
            await migrate(connection, self._database.schema)
            if hidden := await list_hidden(connection):
                logger.warning("worker %s: %s: %s", self._worker_id, hiding(hidden), POLICIES)
            if not self._tasks.identifiers:
                logger.warning("worker %s has no tasks: it will find nothing to do", self._worker_id)
            await held_rows.register_tasks(connection, self._tasks.identifiers)
            self.is_registered = self._registers and await worker_registry.has_registry(connection)
            await self._server_clock.is_steady(connection)  # from here on, its steps are noticed
            if self.is_registered:
                await self._write_heartbeat(connection)
            if releases_old_locks:
                await stale_locks.reset_stale_locks(connection)

    async def _try_direct_session(self) -> None:
        """Meet here what is wrong with the direct URL: those who need it would wait for what cannot come.

        If its server is not there yet, they wait for that.
        """
        if self._database.options.direct_url is None:
            return
        with contextlib.suppress(DatabaseUnavailable):
            async with brief_session(self._database, "start", self._cancel_timeout, direct=True):
                pass

    async def renew(self, session: Executor) -> Renewed:
        """Renew the locks of all jobs that we hold, and our heartbeat. Called in the lease's thread."""
        asked = self._ledger.snapshot()
        found = await worker_registry.renew(session, self._worker_id, asked)
        if self.is_registered:
            await self._write_heartbeat(session, keeps_presence=True)
        return Renewed(asked, found)

    async def register_tasks(self, session: Executor) -> None:
        """Make tasks known that are new, or that somebody has deleted. Called in the lease's thread."""
        await held_rows.register_tasks(session, self._tasks.identifiers)

    async def _write_heartbeat(self, executor: Executor, *, keeps_presence: bool = False) -> None:
        """Write a heartbeat."""
        refusal = await worker_registry.heartbeat(
            executor, self._worker_id, self._heartbeat.as_dict(), keeps_presence=keeps_presence
        )
        if refusal is not None and not self._is_unsaid:
            logger.warning("the server refuses the text of the heartbeat: %s", refusal)
        self._is_unsaid = refusal is not None

    @property
    def is_certain(self) -> bool:
        """Whether no row can be locked by us that is not in the ledger.

        If one may be, only the database can tell, and it has to read its whole table of jobs for that.
        """
        return self._ledger.is_certain(trusts_server=self._trusts_server)

    @property
    def _trusts_server(self) -> bool:
        """Whether the server has certainly kept all that it has committed: no session to it was ever lost."""
        if not (self.is_registered and self._database.options.prepared_statements):
            return False  # nothing is written at the end that would notice a loss, or a pooler hides it
        return not (self._claiming.was_lost or self._recording.was_lost)

    async def release_rest(self) -> None:
        """Give back all jobs that are locked by us and not in the ledger; try until it works."""
        await persist(self._reconcile, what="giving back the rest")

    async def _reconcile(self) -> None:
        await reconcile(self._recording, self._worker_id, self._ledger)

    async def leave(self) -> None:
        """Remove the worker from the registry; try until it works."""
        await persist(self._deregister, what="leaving")

    async def _deregister(self) -> None:
        if self.is_registered:
            await worker_registry.deregister(self._recording, self._worker_id)

    async def pass_on(self, announced: int) -> None:
        """Announce to others, if that works, what was announced to us and will not be claimed by us."""
        if announced > 0:
            with contextlib.suppress(DatabaseError):  # they poll
                await announce(self._recording, announced)

    def terminate(self) -> None:
        """Cut the sessions off at once, without a farewell to the server."""
        for session in (self._claiming, self._recording):
            session.terminate()

    async def aclose(self) -> None:
        """Close the sessions, in at most a second each; at once if cancelled."""
        for session in (self._claiming, self._recording):
            await session.aclose()
