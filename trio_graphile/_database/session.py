"""`Session`: a connection of the worker's own that comes back after it was lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import trio

from trio_graphile._database.connection import Connection, Row
from trio_graphile._database.database import Database
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays

T = TypeVar("T")
logger = logging.getLogger("trio_graphile.database")


@attrs.define(eq=False)
class Session:
    """One session for one purpose, opened at its first statement and again after it was lost.

    It runs statements as a `Connection` does; a lost one is reported, the next opens a new session.
    """

    _database: Database
    _purpose: str
    _cancel_patience: float
    _connection: Connection | None = None

    async def open(self) -> Connection:
        """Return the session that is open, or a new one. Raises `DatabaseUnavailable`."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await self._database.open_session(
                self._purpose, cancel_patience=self._cancel_patience
            )
        return self._connection

    async def fetch(self, sql: str | Statement, *arguments: object) -> list[Row]:
        """As `Connection.fetch`."""
        return await (await self.open()).fetch(sql, *arguments)

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None:
        """As `Connection.fetch_row`."""
        return await (await self.open()).fetch_row(sql, *arguments)

    async def fetch_value(self, sql: str | Statement, *arguments: object) -> Any:
        """As `Connection.fetch_value`."""
        return await (await self.open()).fetch_value(sql, *arguments)

    async def execute(self, sql: str | Statement, *arguments: object) -> str:
        """As `Connection.execute`."""
        return await (await self.open()).execute(sql, *arguments)

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
    for delay in backoff_delays():
        try:
            return await operation()
        except DatabaseError as error:
            if not error.transient:
                raise
            logger.warning("%s failed, next try in %.1f s: %s", what, delay, error)
        await trio.sleep(delay)
    raise AssertionError("backoff_delays never ends")
