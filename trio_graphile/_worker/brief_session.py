"""Brief sessions: for one purpose, and outside of the pool, which handlers may use up."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database


@contextlib.asynccontextmanager
async def brief_session(
    database: Database, purpose: str, cancel_timeout: float, *, direct: bool = False
) -> AsyncIterator[Connection]:
    """Open a session, and close it after the body.

    When the body is cancelled, its statement is given up after at most `cancel_timeout` seconds, so a worker
    that stops does not wait for a slow one.
    """
    connection = await database.open_session(
        purpose, cancel_timeout=cancel_timeout, interruptible=True, direct=direct
    )
    try:
        yield connection
    finally:
        await connection.aclose()  # noqa: ASYNC102  # at most a second, at once if cancelled
