"""Presence: what stands in the database of this worker: that it lives, what it is, and what it holds."""

from __future__ import annotations

import logging

import attrs

from trio_graphile._database import held_rows, stale_locks, worker_registry
from trio_graphile._database.connection import Executor
from trio_graphile._database.database import Database
from trio_graphile._database.schema import migrate
from trio_graphile._database.session import Session, persist
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
    """What a renewal asked for, and what it found."""

    asked: tuple[Job, ...]
    found: worker_registry.Renewal


@attrs.define(eq=False, kw_only=True)
class Presence:
    """Arrives before everything else of the worker, and leaves after it."""

    _database: Database
    _tasks: TaskRegistry
    _worker_id: str
    _ledger: Ledger
    _claiming: Session
    """That of the claims."""
    _recording: Session
    """That of the recorder, which has nothing to write any more when the worker leaves."""
    _heartbeat: Heartbeat
    _server_clock: ServerClock
    _cancel_timeout: float
    """How long a statement may take to end after a cancellation, in seconds."""
    _registers: bool
    """Whether others are to see that we live."""
    is_registered: bool = attrs.field(init=False, default=False)
    """Whether they do, once we have arrived: if the schema has a place for it."""
    _is_unsaid: bool = attrs.field(init=False, default=False)
    """Whether the server refused what the last heartbeat said."""

    async def arrive(self, *, releases_old_locks: bool) -> None:
        """Open the sessions, install the schema if need be, make tasks and worker known.

        Release, if that is wanted, what has been locked for hours: whoever has no sweeper does it here.
        """
        await self._claiming.open()
        await self._recording.open()
        # It may wait for locks of others.
        async with brief_session(self._database, "start", self._cancel_timeout) as connection:
            await migrate(connection, self._database.schema)
            if not self._tasks.identifiers:
                logger.warning("worker %s has no tasks: it will find nothing to do", self._worker_id)
            await held_rows.register_tasks(connection, self._tasks.identifiers)
            self.is_registered = self._registers and await worker_registry.has_registry(connection)
            await self._server_clock.is_steady(connection)  # from here on a step of it will be noticed
            if self.is_registered:
                await self._say(connection)
            if releases_old_locks:
                await stale_locks.reset_stale_locks(connection)

    async def renew(self, session: Session) -> Renewed:
        """Renew all that we hold, and our heartbeat. Runs in the lease's thread."""
        asked = self._ledger.snapshot()
        found = await worker_registry.renew(session, self._worker_id, asked)
        if self.is_registered:
            await self._say(session)
        await held_rows.register_tasks(session, self._tasks.identifiers)
        return Renewed(asked, found)

    async def _say(self, executor: Executor) -> None:
        """Say that we live, and what we are and do."""
        refusal = await worker_registry.heartbeat(executor, self._worker_id, self._heartbeat.as_dict())
        if refusal is not None and not self._is_unsaid:
            logger.warning("the server refuses what the worker says of itself: %s", refusal)
        self._is_unsaid = refusal is not None

    @property
    def is_certain(self) -> bool:
        """Whether nothing can be locked by us of which the ledger does not know.

        If it may be, only the database can say, and it reads the whole table for that, however large.
        """
        return self._ledger.is_certain(trusts_server=self._trusts_server)

    @property
    def _trusts_server(self) -> bool:
        """Whether the server has kept what it said is committed: it was never lost, not even unnoticed."""
        if not (self.is_registered and self._database.options.prepared_statements):
            return False  # there is no farewell to notice it, or a pooler in between
        return not (self._claiming.was_lost or self._recording.was_lost)

    async def release_rest(self) -> None:
        """Make sure that nothing is locked by us of which the ledger does not know, however long it takes."""
        await persist(self._reconcile, what="giving back the rest")

    async def _reconcile(self) -> None:
        await reconcile(self._recording, self._worker_id, self._ledger)

    async def leave(self) -> None:
        """Tell the others that we are gone, however long it takes."""
        await persist(self._deregister, what="leaving")

    async def _deregister(self) -> None:
        if self.is_registered:
            await worker_registry.deregister(self._recording, self._worker_id)

    def terminate(self) -> None:
        """Cut the sessions off at once."""
        for session in (self._claiming, self._recording):
            session.terminate()

    async def aclose(self) -> None:
        """Close the sessions."""
        for session in (self._claiming, self._recording):
            await session.aclose()
