"""The lease: renews our locks from a thread of its own, so that a handler that blocks the loop loses no job.

The thread runs a second Trio loop with one session. It renews the locks, and watches whether the worker's
event loop still turns. If it cannot renew them in time, it has all handlers interrupted before others may
take our jobs (fencing).
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import attrs
import trio

from trio_graphile._database.database import Database
from trio_graphile._database.errors import describe
from trio_graphile._database.presence_locks import Gone
from trio_graphile._database.schema import is_superseded
from trio_graphile._database.session import Session
from trio_graphile._exceptions import DatabaseError, StatementFailed
from trio_graphile._model.bell import Bell
from trio_graphile._model.options import LeaseOptions
from trio_graphile._model.outcomes import StopCause
from trio_graphile._worker.ending import Ending
from trio_graphile._worker.lease_session import LeaseSession
from trio_graphile._worker.lease_signals import LeaseSignals
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.lock_keeper import LockKeeper
from trio_graphile._worker.presence import Presence, Renewed
from trio_graphile._worker.runner import Runner
from trio_graphile._worker.stacks import describe_block

logger = logging.getLogger("trio_graphile.worker")

_CANCEL_TIMEOUT = 0.1
"""How long a renewal may take to end after it was cancelled, in seconds."""
_LOOK_INTERVAL = 0.5
"""How long to wait before the event loop is asked again whether it turns, in seconds."""
_RETRIES = 30
"""The smallest number of times that a failed renewal is tried again while the lease lasts."""


@attrs.define(eq=False, kw_only=True)
class Lease:
    """Renews our locks until `stop` is called. It is the last of the worker's services to end."""

    _database: Database
    _options: LeaseOptions
    _term: LeaseTerm
    _presence: Presence
    """Renews our locks; called in the lease's thread."""
    _signals: LeaseSignals
    """Acts on what the lease finds; called in the worker's thread."""
    _ending: Ending
    """Begins, in the worker's thread, when the schema has a revision that this worker cannot use."""
    _lock_keeper: LockKeeper | None = None
    """Holds the lock that stands for the worker, if one does; runs in the lease's thread."""
    _stopping: threading.Event = attrs.field(init=False, factory=threading.Event)
    _inside: trio.lowlevel.TrioToken | None = attrs.field(init=False, default=None)
    _stop_inside: trio.Event | None = attrs.field(init=False, default=None)
    _ended: trio.Event | None = attrs.field(init=False, default=None)
    """None if it never ran."""
    _outside: trio.lowlevel.TrioToken = attrs.field(init=False)
    _expired: bool = attrs.field(init=False, default=False)
    _hurry: Bell = attrs.field(init=False, factory=Bell)
    """Rings when the next renewal is not to wait until it is due."""
    loop_lag: float = attrs.field(init=False, default=0.0)
    """How long the worker's event loop took to answer the last time that it was asked, in seconds."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew until `stop` is called. No cancellation ends it: it must outlive all other services."""
        self._ended = ended = trio.Event()
        self._outside = trio.lowlevel.current_trio_token()
        self._term.begin(self._term.now())
        watched = threading.get_ident()

        def enter() -> None:
            # In a context of its own: that of the worker names an asyncio loop of the worker's thread.
            contextvars.Context().run(trio.run, self._main, watched)

        task_status.started()
        try:
            await trio.to_thread.run_sync(enter, limiter=trio.CapacityLimiter(1))
        finally:
            ended.set()

    def renew(self) -> None:
        """Renew soon, so that others know that the worker stops. From any thread, once `run` has started."""
        self._call_inside(self._hurry.ring)

    def stop(self) -> None:
        """End the lease; `run` returns soon after. From any thread."""
        self._stopping.set()
        if self._stop_inside is not None:
            self._call_inside(self._stop_inside.set)

    def _call_inside(self, call: Callable[[], object]) -> None:
        """Have a function called in the lease's thread, if that still runs."""
        if self._inside is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._inside.run_sync_soon(call)

    async def end(self) -> None:
        """End the lease, and wait until no statement of it is on its way to the server."""
        self.stop()
        if self._ended is not None:
            await self._ended.wait()

    # --- in the lease's thread ------------------------------------------------------------------

    async def _main(self, watched: int) -> None:
        self._stop_inside = stop = trio.Event()
        self._inside = trio.lowlevel.current_trio_token()
        if self._stopping.is_set():
            return
        async with self._database.in_this_thread() as database:
            own = Session(database, "lease", _CANCEL_TIMEOUT, direct=True)
            is_present = self._lock_keeper is not None and self._presence.is_registered
            session = LeaseSession(own, self._lock_keeper if is_present else None)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, watched)
                    nursery.start_soon(session.run)
                    nursery.start_soon(self._renew_forever, session)
                    if self._lock_keeper is not None and self._presence.is_registered:
                        nursery.start_soon(
                            self._lock_keeper.run, database, self._hurry.ring, self._signal_gone
                        )
                        nursery.start_soon(self._fence_in_time, self._lock_keeper)
                    await stop.wait()
                    nursery.cancel_scope.cancel()
            finally:
                session.terminate()  # the worker waits for this thread, and no statement is under way

    async def _renew_forever(self, session: LeaseSession) -> None:
        # A failed renewal is tried again sooner than the next one is due: the lease goes on running out.
        retry_interval = min(self._options.renew_interval, self._options.length / _RETRIES)
        while True:
            began, was_ending = self._term.now(), self._ending.begun.is_set()
            renewed = await self._renew_in_time(session)
            self._signal_state(expired=not renewed and not self._term.holds())
            if renewed:
                await self._follow_up(session)
                await session.spare()
                # The lease counts from when the renewal began, so the next is due as long after that.
                pause = max(began + self._options.renew_interval - self._term.now(), 0.0)
            else:
                pause = self._at_most_to_end(retry_interval)
            if self._ending.begun.is_set() and not was_ending:
                pause = 0.0  # the heartbeat may have been written just before
            with trio.move_on_after(pause):
                await self._hurry.wait()

    def _timeout(self, session: LeaseSession) -> float:
        """Return how long one renewal may take, in seconds.

        A renewal that has to open its session takes many round trips, and the next one would have to begin
        again: so it gets all the time that is left. On an open session it gets half of that, so that there
        is time for a new session if this one is dead without having been closed.
        """
        left = self._term.left
        if left <= 0:
            left = self._term.whole  # no handler runs any more that would have to be interrupted in time
        return left / 2 if session.is_open else left

    def _at_most_to_end(self, seconds: float) -> float:
        """Return `seconds`, but no more than what is left of the lease: so its end is noticed in time."""
        left = self._term.left
        return min(seconds, left) if left > 0 else seconds

    async def _renew_in_time(self, session: LeaseSession) -> bool:
        """Renew, and signal to the worker what was found; return whether the renewal succeeded."""
        began = self._term.now()
        try:
            with trio.fail_after(self._timeout(session)):
                renewed = await self._renew(session)
        except (DatabaseError, trio.TooSlowError) as error:
            if not self._stopping.is_set():  # else it was given up, since nothing is held any more
                left = self._term.left
                state = f"ends in {left:.1f} s" if left > 0 else "does not hold"
                logger.warning("renewing the lease failed; it %s: %s", state, describe(error))
            return False
        if self._lock_keeper is not None and self._lock_keeper.is_overdue:
            return False
        self._term.renewed_at = began
        if self._term.holds():
            self._term.begin(began)  # and not from now: the database has written the time of the renewal
            self._signal(partial(self._signals.renewed, renewed))
        else:
            logger.warning(
                "the lease had ended when it was renewed: giving back all jobs that do not run yet"
            )
            self._signal(partial(self._come_back, began, renewed))
        return True

    async def _renew(self, session: LeaseSession) -> Renewed:
        """Renew our locks. If that is refused, look whether a new revision of the schema is the reason."""
        if self._lock_keeper is not None and self._lock_keeper.is_in_doubt:
            await self._lock_keeper.renounce(session)
        try:
            return await self._presence.renew(session)
        except StatementFailed:
            await self._look_at_revision(session)
            raise

    async def _follow_up(self, session: LeaseSession) -> None:
        """Do what can wait until our locks are renewed: on a slow wire, each statement takes a while."""
        try:
            with trio.fail_after(self._timeout(session)):
                await self._look_at_revision(session)
                await self._presence.register_tasks(session)
        except (DatabaseError, trio.TooSlowError) as error:
            if not self._stopping.is_set():
                logger.warning(
                    "looking at the schema failed, to be tried with the next renewal: %s", describe(error)
                )

    async def _look_at_revision(self, session: LeaseSession) -> None:
        if await is_superseded(session):
            self._signal(partial(self._ending.begin, StopCause.SUPERSEDED))

    def _come_back(self, began: float, renewed: Renewed) -> None:
        """Have the worker give back what it holds before the lease holds again; called in its thread."""
        self._signals.renewed(renewed)
        self._signals.lapsed()
        self._term.begin(began)

    def _signal_state(self, *, expired: bool) -> None:
        """Signal to the worker when its lease is about to end, and when it holds again."""
        if expired and not self._expired:
            logger.error("other workers may take our jobs soon: interrupting all handlers")
            self._signal(self._signals.expiring)
        elif self._expired and not expired:
            logger.warning("the lease holds again")
            self._signal(self._signals.restored)
        self._expired = expired

    async def _fence_in_time(self, lock_keeper: LockKeeper) -> None:
        """End the lease early if the lock that stands for the worker is lost for too long."""
        while True:
            await lock_keeper.wait_overdue()
            if self._term.holds():
                self._term.cut()
                self._signal_state(expired=True)
                self._hurry.ring()
            await trio.sleep(_LOOK_INTERVAL)

    def _signal_gone(self, gone: list[Gone]) -> None:
        self._signal(partial(self._signals.gone, gone))

    async def _watch(self, watched: int) -> None:
        """Watch whether the worker's event loop turns; log the handler that blocks it."""
        inside = trio.lowlevel.current_trio_token()
        while True:
            turned = trio.Event()
            asked_at = trio.current_time()
            self._signal(partial(self._answer, inside, turned, time.monotonic()))
            with trio.move_on_after(self._options.blocked_after):
                await turned.wait()
            if not turned.is_set():
                where = describe_block(watched, Runner.run.__code__)
                blocked_after = self._options.blocked_after
                logger.error("the event loop is blocked for over %.1f s %s", blocked_after, where)
                await turned.wait()
                blocked = trio.current_time() - asked_at
                logger.warning("the event loop turns again after %.1f s", blocked)
            if not self._expired and not self._term.holds():  # else renewals are tried often
                self._hurry.ring()
            await trio.sleep(_LOOK_INTERVAL)

    def _signal(self, call: Callable[[], None]) -> None:
        """Have a function called in the worker's thread. Called in the lease's thread."""
        with contextlib.suppress(trio.RunFinishedError):  # the worker has ended
            self._outside.run_sync_soon(call)

    def _answer(self, inside: trio.lowlevel.TrioToken, turned: trio.Event, asked_at: float) -> None:
        """Answer that the event loop turns; called in the worker's thread."""
        self.loop_lag = time.monotonic() - asked_at
        with contextlib.suppress(trio.RunFinishedError):
            inside.run_sync_soon(turned.set)
