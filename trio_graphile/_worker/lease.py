"""The lease: renews what we hold, from a thread of its own: a handler that blocks the loop loses nothing.

The thread runs a second Trio with one session. It renews, and looks whether the event loop still turns. When
it could not renew for so long that others may soon take our jobs, it has the handlers interrupted first
(fencing).
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

import attrs
import trio

from trio_graphile._database.database import Database
from trio_graphile._database.session import Session
from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.options import LeaseOptions
from trio_graphile._worker.bell import Bell
from trio_graphile._worker.clocks import find_clock

logger = logging.getLogger("trio_graphile.worker")

_CANCEL_PATIENCE = 0.1
_LOOK_INTERVAL = 0.5


RenewalT = TypeVar("RenewalT")
RenewalT_contra = TypeVar("RenewalT_contra", contravariant=True)


class Events(Protocol[RenewalT_contra]):
    """What the lease tells the worker; called in the worker's own thread."""

    def renewed(self, renewal: RenewalT_contra) -> None:
        """The locks were renewed; `renewal` is whatever `renew` returned."""

    def lapsed(self) -> None:
        """The lease had ended before it was renewed: others may have taken what was held all the while."""

    def expiring(self) -> None:
        """The lease is about to end: nothing may run any more."""

    def restored(self) -> None:
        """The lease holds again."""


@attrs.define(eq=False, kw_only=True)
class Lease(Generic[RenewalT]):
    """Keeps renewing until told to stop; the last of the worker's services to leave."""

    _database: Database
    _options: LeaseOptions
    _renew: Callable[[Session], Awaitable[RenewalT]]
    """Runs in the lease's thread. Reads what it needs in one step, since the worker's thread goes on."""
    _events: Events[RenewalT]
    _describe_block: Callable[[int], str]
    """Says which handler the thread with this identifier is in."""
    _clock: Callable[[], float] = attrs.field(factory=find_clock)
    _stopping: threading.Event = attrs.field(factory=threading.Event)
    _inside: trio.lowlevel.TrioToken | None = None
    _stop_inside: trio.Event | None = None
    _ended: trio.Event | None = attrs.field(init=False, default=None)
    """None if it never ran."""
    _outside: trio.lowlevel.TrioToken = attrs.field(init=False)
    _ends_at: float = 0.0
    """When nothing may run any more if no renewal succeeds."""
    _expired: bool = False
    _overslept: Bell = attrs.field(factory=Bell)
    """Rings when the lease has ended while we waited for the next renewal."""
    _renewed_at: float | None = None
    loop_lag: float = 0.0
    """How long the worker's event loop took to come to what it was asked for last, in seconds."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew until `stop` is called; no cancellation ends it: it must outlive all other services."""
        self._ended = ended = trio.Event()
        self._outside = trio.lowlevel.current_trio_token()
        self._note_renewal(self._clock())
        watched = threading.get_ident()

        def enter() -> None:
            # In a context of its own: the worker's names an asyncio loop that belongs to the worker's thread.
            contextvars.Context().run(trio.run, self._main, watched)

        task_status.started()
        try:
            await trio.to_thread.run_sync(enter, limiter=trio.CapacityLimiter(1))
        finally:
            ended.set()

    def holds(self) -> bool:
        """Whether nobody may have taken our jobs yet. From any thread.

        False, once it has ended, until `Events.lapsed` was called: nothing runs before that is known.
        """
        return self._clock() < self._ends_at  # asked before each job, so it is a plain attribute

    @property
    def age(self) -> float | None:
        """For how long the lease has not been renewed, in seconds; None if it never was."""
        return None if self._renewed_at is None else self._clock() - self._renewed_at

    def stop(self) -> None:
        """End the lease; `run` returns soon after."""
        self._stopping.set()
        inside, stop_inside = self._inside, self._stop_inside
        if inside is not None and stop_inside is not None:
            with contextlib.suppress(trio.RunFinishedError):
                inside.run_sync_soon(stop_inside.set)

    async def end(self) -> None:
        """End the lease, and wait until nothing of it is on its way to the server."""
        self.stop()
        if self._ended is not None:
            await self._ended.wait()

    def _note_renewal(self, at: float) -> None:
        self._ends_at = at + self._options.length - self._options.margin

    # --- in the lease's thread ------------------------------------------------------------------

    async def _main(self, watched: int) -> None:
        self._stop_inside = stop = trio.Event()
        self._inside = trio.lowlevel.current_trio_token()
        if self._stopping.is_set():
            return
        async with self._database.in_this_thread() as database:
            session = Session(database, "lease", _CANCEL_PATIENCE, direct=True)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, watched)
                    nursery.start_soon(self._renew_forever, session)
                    await stop.wait()
                    nursery.cancel_scope.cancel()
            finally:
                session.terminate()  # the worker's end waits for this thread, and nothing is under way here

    async def _renew_forever(self, session: Session) -> None:
        # After a failure sooner than usual: a lease is long, but not so long as to waste a tenth of it.
        retry_interval = min(self._options.renew_interval, self._options.length / 30)
        while True:
            began = self._clock()
            renewed = await self._renew_once(session)
            self._judge(expired=not renewed and not self.holds())
            if renewed:  # the lease counts from when that began, so the next is due as long after
                pause = max(began + self._options.renew_interval - self._clock(), 0.0)
            else:
                pause = self._at_most_to_end(retry_interval)
            with trio.move_on_after(pause):
                await self._overslept.wait()

    def _patience(self, session: Session) -> float:
        """Return for how long one renewal is waited for, in seconds.

        One that has to open its session takes many round trips, and begins from nothing if it is given up:
        it gets all that is left. On a session that is open it gets half of that, so that a session that has
        died without a word leaves time for a new one.
        """
        whole = self._options.length - self._options.margin
        left = self._ends_at - self._clock()
        left = left if left > 0 else whole  # nothing runs any more that would have to be interrupted first
        return left / 2 if session.is_open else left

    def _at_most_to_end(self, seconds: float) -> float:
        """Cut a wait short where it would make us notice the end of the lease too late."""
        left = self._ends_at - self._clock()
        return min(seconds, left) if left > 0 else seconds

    async def _renew_once(self, session: Session) -> bool:
        began = self._clock()
        try:
            with trio.fail_after(self._patience(session)):
                renewal = await self._renew(session)
        except (DatabaseError, trio.TooSlowError) as error:
            left = self._ends_at - self._clock()
            logger.warning("renewing the lease failed, it ends in %.1f s: %r", left, error)
            return False
        self._renewed_at = began
        if self.holds():
            self._note_renewal(began)  # not later: others count from what the database wrote
            self.tell(lambda: self._events.renewed(renewal))
        else:
            logger.warning("the lease had ended when it was renewed: giving back what nobody has begun")
            self.tell(lambda: self._come_back(began, renewal))
        return True

    def _come_back(self, began: float, renewal: RenewalT) -> None:
        """Have the worker look at what it holds before the lease holds again; called in its thread."""
        self._events.renewed(renewal)
        self._events.lapsed()
        self._note_renewal(began)

    def _judge(self, *, expired: bool) -> None:
        """Tell the worker when its lease is about to end, and when it holds again."""
        if expired and not self._expired:
            logger.error("the lease could not be renewed for too long: interrupting all handlers")
            self.tell(self._events.expiring)
        elif self._expired and not expired:
            logger.warning("the lease holds again")
            self.tell(self._events.restored)
        self._expired = expired

    async def _watch(self, watched: int) -> None:
        """Look whether the worker's event loop turns; name the handler that keeps it from turning."""
        inside = trio.lowlevel.current_trio_token()
        while True:
            turned = trio.Event()
            asked_at = trio.current_time()
            self.tell(partial(self._answer, inside, turned, time.monotonic()))
            with trio.move_on_after(self._options.blocked_after):
                await turned.wait()
            if not turned.is_set():
                patience, where = self._options.blocked_after, self._describe_block(watched)
                logger.error("the event loop is blocked for over %.1f s %s", patience, where)
                await turned.wait()
                blocked = trio.current_time() - asked_at
                logger.warning("the event loop turns again after %.1f s", blocked)
            if not self._expired and not self.holds():  # else it tries as often as it should
                self._overslept.ring()
            await trio.sleep(_LOOK_INTERVAL)

    def tell(self, what: Callable[[], None]) -> None:
        """Have something called in the worker's own thread. From the lease's."""
        with contextlib.suppress(trio.RunFinishedError):  # then nobody is left to be told
            self._outside.run_sync_soon(what)

    def _answer(self, inside: trio.lowlevel.TrioToken, turned: trio.Event, asked_at: float) -> None:
        """Say that the event loop turns; called in it."""
        self.loop_lag = time.monotonic() - asked_at
        with contextlib.suppress(trio.RunFinishedError):
            inside.run_sync_soon(turned.set)
