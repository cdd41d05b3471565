"""A session of the worker's own for a moment: handlers may use up the pool."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database


@contextlib.asynccontextmanager
async def brief_session(database: Database, purpose: str, cancel_timeout: float) -> AsyncIterator[Connection]:
    """Open a session, and close it after the body.

    A statement may take long, and whoever stops need not wait for it: cancelled, it is given up after
    `cancel_timeout` seconds at most.
    """
    connection = await database.open_session(purpose, cancel_patience=cancel_timeout, interruptible=True)
    try:
        yield connection
    finally:
        await connection.aclose()  # noqa: ASYNC102  # at most a second, at once if cancelled
