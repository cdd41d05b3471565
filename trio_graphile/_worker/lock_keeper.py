"""The lock keeper: keeps a lock on the server that stands for the worker, in the lease's thread.

Others take our jobs when our registration names a lock that has been gone for a grace. So we ask on the
session of the lock for a sign of life, open another when there is none, and interrupt our handlers in time
when the session is lost and no other can be had. Silence alone does not interrupt them: our system would know
if the server no longer had our session, unless something is between the two that answers in the place of
either. There the lock does not stand for the worker, or any silence interrupts its handlers, as the options
say. `tests/scenarios/presence_model.py` has the rules, and what they are for.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable

import attrs
import trio

from trio_graphile._database import ends, presence_locks
from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.database import Database
from trio_graphile._database.ends import ServerEnd
from trio_graphile._database.errors import describe
from trio_graphile._database.presence_locks import Gone, PresenceLock
from trio_graphile._exceptions import ConnectionLost, DatabaseError, StatementFailed
from trio_graphile._model.options import PresenceOptions, WorkerOptions
from trio_graphile._worker.absences import Absences
from trio_graphile._worker.clocks import find_clock

logger = logging.getLogger("trio_graphile.worker")

_CANCEL_TIMEOUT = 0.1
"""How long a statement may take to end after it was cancelled, in seconds."""
_DAY = 86_400.0
"""How long an answer is waited for: longer than any lease, since whoever is silent may hold our lock."""
_BEGINNING = 0.1
"""The part of a lease for which its first renewal waits for the session of the lock."""
_LOOKS = 20
"""How often to look, before it would be too late, whether handlers must be interrupted."""
_LONGEST_LOOK = 0.5
"""The longest time between two of them, in seconds: Trio's clock stands still while the machine sleeps."""
_LONGEST_RENEWAL = 10
"""The share of its length for which a lease may use the session of the lock before that counts as silent."""
_INDIRECT = "there is a proxy or a translation of addresses between the worker and the server"


def why_no_lock(database: Database, options: WorkerOptions) -> str | None:
    """Say why no lock will ever stand for a worker with these options; None if one may."""
    if options.recovery is None or options.recovery.presence is None:
        return "presence is turned off"
    return None if database.is_direct else "its sessions go through a pooler, and there is no direct_url"


@attrs.define(eq=False, kw_only=True)
class LockSession:
    """A session with its lock."""

    connection: Connection
    lock: PresenceLock
    server_end: ServerEnd | None
    """None if something is between us and the server."""
    answered: trio.Event = attrs.field(factory=trio.Event)
    """Set unless a question is under way."""


@attrs.define(eq=False, kw_only=True)
class LockKeeper:
    """Holds the lock, and knows when that is no longer certain."""

    _worker_id: str
    _options: PresenceOptions
    _lease_length: float
    """For how long the server keeps a silent session, in seconds: the lease ends first."""
    _now: Callable[[], float] = attrs.field(factory=find_clock)
    _absences: Absences = attrs.field(factory=Absences)
    _session: LockSession | None = attrs.field(init=False, default=None)
    _is_ended: bool = attrs.field(init=False, default=False)
    """Whether we may have ended the session ourselves."""
    _older: list[PresenceLock] = attrs.field(init=False, factory=list)
    """Sessions on which something of ours may be on its way."""
    _incarnations: set[str] = attrs.field(init=False, factory=set)
    """Those of the server that our registration may name."""
    _registrations: int = attrs.field(init=False, default=0)
    """How many were begun."""
    _server_end: ServerEnd | None = attrs.field(init=False, default=None)
    """Where the last one was, or is. None if something is between us and the server."""
    _at_risk: bool = attrs.field(init=False, default=False)
    """Whether our registration may name a key of ours."""
    _confirmed_at: float = attrs.field(init=False, default=-math.inf)
    """When the server certainly had our lock."""
    _has_failed: bool = attrs.field(init=False, default=False)
    """Whether that was logged, and nothing has worked since."""
    _begun: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set once it was tried to have a session."""

    @classmethod
    def of(cls, database: Database, worker_id: str, options: WorkerOptions) -> LockKeeper | None:
        """Return that of a worker; None if no lock will ever stand for it."""
        if options.recovery is None or options.recovery.presence is None or why_no_lock(database, options):
            return None
        return cls(worker_id=worker_id, options=options.recovery.presence, lease_length=options.lease.length)

    # --- what the lease asks --------------------------------------------------------------------

    @property
    def is_in_doubt(self) -> bool:
        """Whether others may see that our lock is gone."""
        return self._at_risk and (not self._holds or (self._server_end is None and self._is_late))

    @property
    def is_overdue(self) -> bool:
        """Whether handlers must be interrupted: others may take our jobs soon."""
        return self._at_risk and self._is_late and (not self._holds or self._server_end is None)

    @property
    def _is_late(self) -> bool:
        """Whether it is too long ago that the server certainly had our lock."""
        return self._now() >= self._confirmed_at + self._options.fence_after

    @property
    def _holds(self) -> bool:
        session = self._session
        return session is not None and not (self._is_ended or session.connection.is_closed)

    @property
    def is_well(self) -> bool:
        """Whether the session is there, and answers."""
        return self._holds and self._session is not None and self._session.answered.is_set()

    @property
    def may_lend(self) -> bool:
        """Whether the lease can use the session of the lock.

        Not if something is between its ends: there the lock depends on prompt answers.
        """
        return self.is_well and self._session is not None and self._session.server_end is not None

    async def lend(self) -> LockSession | None:
        """Lend the session of the lock for one statement, after which `answered` must be set; None if not."""
        # Not for long if the lease is short: on a slow wire it takes most of that to open the other session.
        with trio.move_on_after(min(self._options.fence_after / 2, self._lease_length * _BEGINNING)):
            await self._begun.wait()
        if (session := self._session) is not None and session.server_end is not None:
            with trio.move_on_after(self._options.probe_timeout):
                await session.answered.wait()
        if (session := self._session) is None or not self.may_lend:
            return None
        session.answered = trio.Event()
        return session

    async def renounce(self, executor: Executor) -> None:
        """Take the lock out of our registration: from then on the lease decides. Raises `DatabaseError`."""
        registrations, older = self._registrations, list(self._older)
        self._is_ended = True
        await presence_locks.end_sessions(executor, older)  # else a registration might still arrive
        await presence_locks.renounce(executor, self._worker_id, "its session is lost")
        if registrations == self._registrations:
            self._at_risk = False

    # --- holding the lock -----------------------------------------------------------------------

    async def run(
        self, database: Database, renew: Callable[[], None], on_gone: Callable[[list[Gone]], None]
    ) -> None:
        """Hold the lock until cancelled.

        Calls `renew` when the lease should be renewed at once, and `on_gone` when other workers are gone.
        """
        try:
            async with trio.open_nursery() as asking:
                while True:
                    if not self.is_well:
                        await self._open_sessions(database, renew)
                    held_at = trio.current_time()
                    await self._keep_asking(asking, on_gone)
                    await trio.sleep_until(held_at + self._options.retry_interval)
        finally:
            if self._session is not None:
                self._session.connection.terminate()

    async def wait_overdue(self) -> None:
        """Wait until handlers must be interrupted."""
        while not self.is_overdue:  # noqa: ASYNC110  # it comes with time
            await trio.sleep(min(self._options.fence_after / _LOOKS, _LONGEST_LOOK))
            self._look_at_socket()

    def _look_at_socket(self) -> None:
        """Take it for a sign of life that our system knows nothing of an end of the session.

        The end of one that was suspended together with the process is known to the system first.
        """
        now, session = self._now(), self._session
        if session is None or not self._holds or session.server_end is None:
            return
        if ends.has_nothing_to_read(session.connection):
            self._confirmed_at = max(self._confirmed_at, now)

    async def _open_sessions(self, database: Database, renew: Callable[[], None]) -> None:
        """Open sessions until one holds the lock, or the older one has found its tongue."""
        async with trio.open_nursery() as beside:
            beside.start_soon(self._ask_whether_down)
            while not self.is_well:
                try:
                    with trio.fail_after(self._options.fence_after / 2):
                        await self._replace(database)
                except (DatabaseError, trio.TooSlowError) as error:
                    self._note_failure(error)
                    if self.is_in_doubt:
                        renew()  # and our registration without the lock
                    self._begun.set()
                    await trio.sleep(self._options.retry_interval)
                else:
                    self._has_failed = False
                    self._begun.set()
                    renew()  # to see at once what was taken meanwhile
            beside.cancel_scope.cancel()

    async def _ask_whether_down(self) -> None:
        """Ask until cancelled whether the server that had our lock is down: then nobody takes our jobs."""
        while True:
            registrations, end = self._registrations, self._server_end
            if self.is_in_doubt and end is not None:
                with trio.move_on_after(self._options.probe_timeout):
                    if await ends.lets_nobody_in(end) and registrations == self._registrations:
                        self._at_risk = False
            await trio.sleep(self._options.retry_interval)

    def _note_failure(self, error: BaseException) -> None:
        if not self._has_failed:
            logger.warning(
                "the lock that stands for the worker is lost, or says nothing: %s", describe(error)
            )
        self._has_failed = True

    async def _replace(self, database: Database) -> None:
        """Have a new session hold the lock, and only then give the older one up."""
        async with self._open(database) as connection:
            await ends.keep_open(connection, self._lease_length)
            server_end = await ends.find_server_end(connection)
            older = self._session
            asked_at = self._now()
            lock, is_older_held = await presence_locks.take_lock(
                connection, presence_locks.draw_key(), None if older is None else older.lock.key
            )
            if lock is None:
                raise ConnectionLost("the server has given our lock to somebody else")
            if older is not None and (is_older_held or lock.incarnation not in self._incarnations):
                self._confirmed_at = max(self._confirmed_at, asked_at)
            self._is_ended = True
            await presence_locks.end_sessions(connection, self._older)
            self._older = [lock]
            session = LockSession(connection=connection, lock=lock, server_end=server_end)
            await self._register(session)
        if older is not None:
            older.connection.terminate()
        self._session, self._is_ended = session, False
        session.answered.set()

    @contextlib.asynccontextmanager
    async def _open(self, database: Database) -> AsyncIterator[Connection]:
        """Open a session; cut it off if the body fails."""
        connection = await database.open_session(
            "presence", cancel_timeout=_CANCEL_TIMEOUT, answer_timeout=_DAY, direct=True
        )
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise

    async def _register(self, session: LockSession) -> None:
        if not self._stands(session):
            await presence_locks.renounce(session.connection, self._worker_id, _INDIRECT)
            self._at_risk = False
            return
        asked_at = self._now()
        if not self._at_risk:
            self._confirmed_at = asked_at  # what takes effect of it does so while the new lock is held
        self._registrations += 1
        self._server_end = session.server_end
        self._incarnations.add(session.lock.incarnation)
        self._at_risk = True
        self._at_risk = await presence_locks.register(
            session.connection, self._worker_id, session.lock, self._options.grace
        )
        self._incarnations = {session.lock.incarnation}
        self._confirmed_at = max(self._confirmed_at, asked_at)

    def _stands(self, session: LockSession) -> bool:
        """Whether the lock of a session stands for the worker."""
        return self._options.indirect or session.server_end is not None

    # --- asking for a sign of life --------------------------------------------------------------

    async def _keep_asking(self, asking: trio.Nursery, on_gone: Callable[[list[Gone]], None]) -> None:
        """Ask now and then, until the session is lost or does not answer in time."""
        session = self._session
        while session is not None and self._holds:
            longest = self._lease_length / _LONGEST_RENEWAL
            if session.answered.is_set():  # else it is lent
                session.answered, longest = trio.Event(), self._options.probe_timeout
                asking.start_soon(self._ask, session)
            answered = session.answered  # whoever borrows the session next gives it another
            with trio.move_on_after(longest):
                await answered.wait()
            if not answered.is_set():
                logger.warning("the session that stands for the worker is silent: opening another")
                return
            if due := self._absences.due(self._now()):
                on_gone(due)
            with trio.move_on_after(self._absences.next_in(self._now(), self._options.probe_interval)):
                await session.connection.wait_closed()
                return

    async def _ask(self, session: LockSession) -> None:
        """Ask for a sign of life, and who is gone. However late the answer is, it is one."""
        asked_at = self._now()
        try:
            gone, is_registered = await presence_locks.look(
                session.connection, self._worker_id, session.lock.key
            )
            if session is self._session:
                self._confirmed_at = max(self._confirmed_at, asked_at)
                self._absences.note(gone, self._now())
                if is_registered:
                    self._at_risk = True
                elif self._stands(session):
                    # Somebody took us for dead, and we are registered anew; or the incarnation has changed.
                    incarnation = await presence_locks.find_incarnation(session.connection)
                    session.lock = attrs.evolve(session.lock, incarnation=incarnation)
                    await self._register(session)
                self._has_failed = False
        except StatementFailed as error:  # an answer, too
            self._confirmed_at = max(self._confirmed_at, asked_at)
            self._note_failure(error)
        except DatabaseError as error:
            logger.warning("the session that stands for the worker failed: %s", error)
            session.connection.terminate()
        finally:
            session.answered.set()
