"""`Session`: a connection of the worker's own that comes back after it was lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.statement import Statement
from trio_graphile._database.statements import Statements, Verb
from trio_graphile._exceptions import DatabaseError, StatementFailed
from trio_graphile._model.backoff import backoff_delays

T = TypeVar("T")
logger = logging.getLogger("trio_graphile.database")


_LONGEST_PAUSE = 2.0  # after an outage, that is how late we may notice that it is over
_READ_ONLY = "25006"

# As the role that has logged in, for this statement alone. Whoever acts as another, as `?role=` in the URL
# says, does not see when a session began, not even its own, and may not end one.
ACTIVITY_OF = """pg_catalog.pg_stat_get_activity(
      case when pg_catalog.set_config('role', 'none', true) = 'none' then {process} end
    ) as activity"""

IDENTIFY = f"""
    select activity.pid, activity.backend_start
    from {ACTIVITY_OF.replace("{process}", "pg_backend_pid()")}
"""

END = f"""
    select pg_terminate_backend(activity.pid)
    from {ACTIVITY_OF.replace("{process}", "$1::integer")}
    where activity.backend_start = $2::timestamptz
"""  # $1 process, $2 its start, since the number may be another's by now


@attrs.define(eq=False)
class Session(Statements):
    """One session for one purpose, opened at its first statement and again after it was lost.

    It runs statements as a `Connection` does; a lost one is reported, the next opens a new session. Before it
    is used, the server has ended the lost one: what was on its way there cannot take effect any more, after
    we have looked what did.
    """

    _database: Database
    _purpose: str
    _cancel_timeout: float | None
    """As of `open_session`; None for that of the database, which a worker may shorten at any time."""
    _lock_timeout: float | None = None
    """How long a statement may wait for a lock, in seconds."""
    _direct: bool = False
    """Whether it must not go through a pooler."""
    _connection: Connection | None = None
    _identity: tuple[int, datetime] | None = None
    times_opened: int = 0
    """How often it was opened: each time but the first, what the server has said may not be so any more."""

    @property
    def was_lost(self) -> bool:
        """Whether it was lost once, perhaps with a server that has not kept what it said is committed."""
        return self.times_opened > 1 or (self._connection is not None and self._connection.is_closed)

    @property
    def is_open(self) -> bool:
        """Whether the next statement needs no new session."""
        return self._connection is not None and not self._connection.is_closed

    async def open(self) -> Connection:
        """Return the session that is open, or a new one. Raises `DatabaseUnavailable`, `ConnectionLost`."""
        if self._connection is None or self._connection.is_closed:
            connection = await self._database.open_session(
                self._purpose,
                cancel_timeout=self._cancel_timeout or self._database.cancel_timeout,
                lock_timeout=self._lock_timeout,
                direct=self._direct,
            )
            try:
                await self._replace(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
            self.times_opened += 1
        return self._connection

    async def _replace(self, connection: Connection) -> None:
        if not self._database.options.prepared_statements:
            return  # behind a pooler the server's sessions are not ours to end
        if self._identity is not None:
            for delay in backoff_delays(first=0.01, cap=0.5):
                if not await connection.fetch(END, *self._identity):
                    break
                await trio.sleep(delay)
        [row] = await connection.fetch(IDENTIFY)
        self._identity = (row["pid"], row["backend_start"])

    async def _run(self, verb: Verb, sql: str | Statement, arguments: tuple[object, ...]) -> Any:
        connection = await self.open()
        if self._cancel_timeout is None:
            connection.cancel_timeout = self._database.cancel_timeout
        try:
            return await connection._run(verb, sql, arguments)  # noqa: SLF001  # it is of the same kind
        except StatementFailed as error:
            if error.sqlstate == _READ_ONLY:  # a standby once: the session would stay what it was when opened
                connection.terminate()
            raise

    async def aclose(self) -> None:
        """Close the session; a later statement would open another."""
        if self._connection is not None:
            await self._connection.aclose()

    def terminate(self) -> None:
        """Cut the session off at once."""
        if self._connection is not None:
            self._connection.terminate()


async def persist(operation: Callable[[], Awaitable[T]], *, what: str) -> T:
    """Repeat an operation for as long as it fails for reasons that pass; wait longer each time.

    Raises what will not pass. Ends early only by cancellation.
    """
    for delay in backoff_delays(cap=_LONGEST_PAUSE):
        try:
            return await operation()
        except DatabaseError as error:
            if not error.transient:
                raise
            logger.warning("%s failed, next try in %.1f s: %s", what, delay, error)
        await trio.sleep(delay)
    raise AssertionError("backoff_delays never ends")
