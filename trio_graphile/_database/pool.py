"""A fixed number of sessions, lent one at a time and opened when first needed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._exceptions import DatabaseError, DatabaseUnavailable
from trio_graphile._model.backoff import backoff_delays


@attrs.define(eq=False)
class Pool:
    """Lends sessions. None is opened or waited for once the borrower is cancelled; none leaks."""

    _open: Callable[[], Awaitable[Connection]]
    _size: int
    _lent: trio.Semaphore = attrs.field(init=False)
    _idle: list[Connection] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self._lent = trio.Semaphore(self._size)

    @trio.lowlevel.enable_ki_protection
    async def borrow(self) -> Connection:
        """Lend a session, for whoever asks to give back; waits while all are lent."""
        try:
            self._lent.acquire_nowait()  # else it would take a turn of the event loop, even if nobody waits
        except trio.WouldBlock:
            await self._lent.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed:
                    return connection
            return await self._open()
        except BaseException:
            self._lent.release()
            raise

    @trio.lowlevel.enable_ki_protection
    def give_back(self, connection: Connection) -> None:
        """Take a session back; one that was lost meanwhile does not come back."""
        if not connection.is_closed:
            self._idle.append(connection)
        self._lent.release()

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
                self.give_back(connection)

    async def wait_reachable(self, patience: float) -> None:
        """Open the first session, trying again for `patience` seconds. Raises `DatabaseUnavailable`."""
        with trio.move_on_after(patience):
            for delay in backoff_delays(cap=1.0):
                with contextlib.suppress(DatabaseUnavailable):
                    self.give_back(await self.borrow())
                    return
                await trio.sleep(delay)
        self.give_back(await self.borrow())

    async def aclose(self) -> None:
        """Close what is idle; the borrowers are gone by then."""
        while self._idle:
            await self._idle.pop().aclose()
