"""Listening to notifications: the session comes back after it was lost, and after it has gone deaf."""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.session import Session
from trio_graphile._exceptions import ConnectionLost, DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.bell import Bell
from trio_graphile._model.statistics import ListenState

logger = logging.getLogger("trio_graphile.worker")

_LONGEST_PAUSE = 10.0
"""Between two attempts to connect, in seconds."""
_PROBE_INTERVAL = 15.0
"""How often the session has to show that it lives, in seconds."""
_PROBE_TIMEOUT = 5.0
"""How long that may take, in seconds."""
_ECHO_EVERY = 20
"""Each how manyth probe of a shared session is an echo, which shows that it hears, too.

An echo wakes every session that listens in the database: 200 idle workers kept a third of a core busy when
all their probes were echoes.
"""

PROBE = "select"
ECHO = "select pg_notify($1::text, '')"  # $1 a channel that nobody else listens to


@attrs.define(eq=False, kw_only=True)
class Listening(abc.ABC):
    """Listens on a session; opens it again, for ever. A subclass says what it is for.

    Nothing is heard while it is lost. So whoever listens looks, too, each time when it is restored.
    """

    _database: Database
    _echo_channel: str
    """One that nobody else listens to."""
    _cancel_timeout: float
    """How long a statement may take to end after a cancellation, in seconds."""
    _session: Session | None = None
    """Where to listen; without it, a session is opened for nothing else. It is left open at the end."""
    _turn: trio.Lock = attrs.field(factory=trio.Lock)
    """Whoever runs a statement on that session holds it."""
    _probe_interval: float = _PROBE_INTERVAL
    _probe_timeout: float = _PROBE_TIMEOUT
    state: ListenState = attrs.field(init=False, default=ListenState.CONNECTING)
    """Whether it listens at this moment."""
    _has_heard_echo: bool = attrs.field(init=False, default=False)
    _heard_echo: Bell = attrs.field(init=False, factory=Bell)

    @abc.abstractmethod
    def channels(self) -> Mapping[str, Callable[[str], None]]:
        """Return what is listened to, and what hears the payload of each notification."""

    @abc.abstractmethod
    async def restored(self, connection: Connection) -> None:
        """Look for what nobody has heard, now that the session listens. May raise `DatabaseError`."""

    def connecting(self, attempt: int) -> None:
        """Take notice that a session is about to be opened; 1 is the first attempt, also after a loss."""
        _ = attempt  # a subclass may tell somebody

    def lost(self, error: DatabaseError, delay: float) -> None:
        """Take notice that nothing is heard, and that it is tried again in so many seconds."""
        _ = error, delay  # as above

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Started once it listens, or has failed to for a first time."""
        delays, attempt = backoff_delays(cap=_LONGEST_PAUSE), 0
        while True:
            attempt += 1
            self.connecting(attempt)
            try:
                async with self._opened() as connection:
                    async with self._turn:
                        await self._subscribe(connection)
                        await self.restored(connection)
                    self.state = ListenState.LISTENING
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    delays, attempt = backoff_delays(cap=_LONGEST_PAUSE), 0
                    await self._wait_deaf(connection)
            except DatabaseError as error:
                if not error.transient:
                    raise
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                delay = next(delays)
                self.state = ListenState.LOST
                logger.warning("not listening, polling meanwhile; next try in %.1f s: %s", delay, error)
                self.lost(error, delay)
                await trio.sleep(delay)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Connection]:
        """Open the session. It is closed at the end if it is our own, and after an error."""
        if self._session is None:
            connection = await self._database.open_session(
                "listen", cancel_timeout=self._cancel_timeout, direct=True
            )
            try:
                yield connection
            finally:
                await connection.aclose()
            return
        async with self._turn:
            connection = await self._session.open()
        try:
            yield connection
        except DatabaseError:
            connection.terminate()
            raise

    async def _subscribe(self, connection: Connection) -> None:
        for channel, hear in self.channels().items():
            await connection.listen(channel, hear)
        await connection.listen(self._echo_channel, self._hear_echo)

    async def _wait_deaf(self, connection: Connection) -> None:
        """Wait until the session is lost, does not answer, or does not bring back what we send through it.

        A connection that was cut without a packet looks alive for a quarter of an hour otherwise.
        """
        for number in count():
            with trio.move_on_after(self._probe_interval):
                await connection.wait_closed()
                raise ConnectionLost("the session was closed")
            is_echo = self._session is None or number % _ECHO_EVERY == 0
            async with self._turn:
                with trio.move_on_after(self._probe_timeout) as scope:
                    await (self._wait_echo(connection) if is_echo else connection.execute(PROBE))
            if scope.cancelled_caught:
                connection.terminate()
                raise ConnectionLost(
                    "the session has gone deaf" if is_echo else "the session does not answer"
                )

    async def _wait_echo(self, connection: Connection) -> None:
        self._has_heard_echo = False
        await connection.execute(ECHO, self._echo_channel)
        while not self._has_heard_echo:
            await self._heard_echo.wait()

    def _hear_echo(self, _payload: str) -> None:
        self._has_heard_echo = True
        self._heard_echo.ring()
