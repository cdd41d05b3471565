"""A transaction that the server ends by itself if we fall silent: what it has locked does not stay locked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from trio_graphile._database.connection import LONGEST_SILENCE, Connection, Isolation, Transactor
from trio_graphile._database.statement import Statement

LIMIT_SILENCE = Statement("""
    select set_config('idle_in_transaction_session_timeout', $1::text, true)
""")  # $1 a duration


@contextlib.asynccontextmanager
async def brief_transaction(
    database: Transactor,
    isolation: Isolation | None = None,
    *,
    longest_silence: float = LONGEST_SILENCE,
    statements: Sequence[Statement] = (),
) -> AsyncIterator[Connection]:
    """Run the body in a transaction that the server ends if it hears nothing for so many seconds.

    If the body says which statements it runs at most, not even one that is half sent holds it up for long.
    The transaction that the caller has opened is the caller's to end, and keeps its isolation level.
    """
    is_ours = not (isinstance(database, Connection) and database.is_in_transaction)
    if is_ours and isolation is None:
        isolation = (
            "read_committed"  # whatever the role or the database defaults to: we wait for rows, and look
        )
    async with database.transaction(isolation) as connection:
        if is_ours:
            await connection.execute(LIMIT_SILENCE, f"{longest_silence}s")
        if statements and not await connection.prepare(statements) and is_ours:
            await connection.limit_transaction(len(statements), longest_silence)
        yield connection


USE_ONE_CORE = Statement("""
    select set_config('max_parallel_workers_per_gather', '0', true)
""")


@contextlib.asynccontextmanager
async def one_core_transaction(database: Transactor) -> AsyncIterator[Connection]:
    """As `brief_transaction`, on one core of the server: the time that a statement takes is what it costs."""
    async with brief_transaction(database, "read_committed") as connection:
        await connection.execute(USE_ONE_CORE)
        yield connection
