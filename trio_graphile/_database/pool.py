"""A fixed number of sessions, lent one at a time and opened when first needed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable

import attrs
import trio

from trio_graphile._database.connecting import Attempt
from trio_graphile._database.connection import CLOSE_TIMEOUT, Connection
from trio_graphile._database.locks import take_if_free
from trio_graphile._exceptions import DatabaseClosed, DatabaseError, DatabaseUnavailable, SessionsBusy
from trio_graphile._model.backoff import backoff_delays


@attrs.define(eq=False)
class Pool:
    """Lends sessions. Whoever is cancelled while one is opened leaves; it is for the next borrower then."""

    _begin: Callable[[], Attempt]
    """Begins to open a session."""
    _size: int
    _timeout: float = math.inf
    """How long a borrower waits while all are lent, in seconds."""
    _room: trio.Semaphore = attrs.field(init=False)
    _idle: list[Connection] = attrs.field(init=False, factory=list)
    _attempts: list[Attempt] = attrs.field(init=False, factory=list)
    """Those for which nobody waits. With them there are no more than `_size` sessions, since an attempt is
    begun only when there is neither an idle session nor one of these."""
    _lent: set[Connection] = attrs.field(init=False, factory=set)
    _is_closed: bool = attrs.field(init=False, default=False)
    _all_back: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when the pool is closed and no session is lent."""

    def __attrs_post_init__(self) -> None:
        self._room = trio.Semaphore(self._size)

    @trio.lowlevel.enable_ki_protection
    async def borrow(self) -> Connection:
        """Lend a session, for whoever asks to give back; waits while all are lent.

        Raises `DatabaseClosed`, `SessionsBusy`, and what `Attempt.wait` raises.
        """
        if not take_if_free(self._room):
            await self._wait_for_room()
        try:
            connection = await self._idle_or_new()
        except BaseException:
            self._room.release()
            raise
        self._lent.add(connection)
        return connection

    async def _wait_for_room(self) -> None:
        with trio.move_on_after(self._timeout) as waiting:
            await self._room.acquire()
        if waiting.cancelled_caught:
            raise SessionsBusy(f"no session was free within {self._timeout:g} s")

    async def _idle_or_new(self) -> Connection:
        self.check_open()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        self._attempts = [attempt for attempt in self._attempts if not attempt.is_in_vain]
        attempt = self._attempts.pop() if self._attempts else self._begin()
        try:
            connection = await attempt.wait()
            self.check_open()
        except (trio.Cancelled, DatabaseClosed):
            self._leave(attempt)
            raise
        return connection

    def check_open(self) -> None:
        """Raise `DatabaseClosed` if the pool is closed."""
        if self._is_closed:
            raise DatabaseClosed

    def _leave(self, attempt: Attempt) -> None:
        if self._is_closed:
            attempt.abandon()
        else:
            self._attempts.append(attempt)

    @trio.lowlevel.enable_ki_protection
    async def give_back(self, connection: Connection) -> None:
        """Take a session back, for the next borrower if it is as good as new; else it is closed."""
        self._lent.remove(connection)
        try:
            if not connection.is_as_new or self._is_closed:
                await connection.aclose()
            else:
                self._idle.append(connection)
        finally:
            self._room.release()
            if self._is_closed and not self._lent:
                self._all_back.set()

    @contextlib.asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def borrow_clean(self) -> AsyncIterator[Connection]:
        """Lend a session to code that may leave things on it; they are undone before the next borrower."""
        connection = await self.borrow()
        try:
            yield connection
        finally:
            try:
                await connection.reset()  # noqa: ASYNC102  # uncancellable and bounded inside
            except DatabaseError:
                connection.terminate()
            finally:
                await self.give_back(connection)  # noqa: ASYNC102  # as above

    async def wait_reachable(self, seconds: float) -> None:
        """Open the first session, trying again for so many `seconds`. Raises `DatabaseUnavailable`."""
        with trio.move_on_after(seconds):
            for delay in backoff_delays(cap=1.0):
                with contextlib.suppress(DatabaseUnavailable):
                    await self.give_back(await self.borrow())
                    return
                await trio.sleep(delay)
        await self.give_back(await self.borrow())

    async def aclose(self) -> None:
        """Close all sessions, which takes a second at most, and nothing when cancelled.

        What runs in one that is lent has as long to end; then it raises `ConnectionLost`.
        """
        self._is_closed = True
        for attempt in self._attempts:
            attempt.abandon()
        try:
            with trio.move_on_after(CLOSE_TIMEOUT):
                async with trio.open_nursery() as nursery:
                    for connection in self._idle:
                        nursery.start_soon(connection.aclose)
                    if self._lent:
                        await self._all_back.wait()
        finally:  # if cancelled, too: borrowers elsewhere may not be
            for connection in self._lent:
                connection.terminate()
