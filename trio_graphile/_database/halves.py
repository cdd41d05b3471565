"""Writes many rows at once, or in halves if the database refuses that, so that one row holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from trio_graphile._database.connection import Connection
from trio_graphile._exceptions import StatementFailed

T = TypeVar("T")
R = TypeVar("R")
logger = logging.getLogger("trio_graphile.database")

_OUT_OF_TIME = "57014"


async def in_halves(
    write: Callable[[Sequence[T]], Awaitable[Iterable[R]]], rows: Sequence[T]
) -> tuple[list[R], list[tuple[T, StatementFailed]]]:
    """Return the results of `write` for all rows together or in halves, and the rows that are refused.

    What `write` does must be undone when it raises. Raises `StatementFailed` for transient failures, and for
    failures that are not the fault of a row: then not even writing no rows succeeds.
    """
    if not rows:
        return [], []
    try:
        return [*await write(rows)], []
    except StatementFailed as error:
        if error.transient and error.sqlstate != _OUT_OF_TIME:
            raise
        refusal = error
    if len(rows) == 1:
        await write([])
        return [], [(rows[0], refusal)]
    half = len(rows) // 2
    done, refused = await in_halves(write, rows[:half])
    rest, rest_refused = await in_halves(write, rows[half:])
    return done + rest, refused + rest_refused


async def write_most(
    write: Callable[[Sequence[T]], Awaitable[Iterable[R]]],
    rows: Sequence[T],
    *,
    what: str,
    name: Callable[[T], object] = str,
) -> list[R]:
    """Like `in_halves`, but log each refused row by its name; `what` says what was tried."""
    done, refused = await in_halves(write, rows)
    for row, error in refused:
        logger.error("%s: row %s is refused, and left for the next time: %s", what, name(row), error)
    return done


async def in_savepoints(
    connection: Connection,
    write: Callable[[Sequence[T]], Awaitable[Iterable[R]]],
    rows: Sequence[T],
    *,
    what: str,
) -> list[R]:
    """Like `write_most`, but in the open transaction."""

    async def attempt(part: Sequence[T]) -> Iterable[R]:
        async with connection.transaction():
            return await write(part)

    return await write_most(attempt, rows, what=what)
