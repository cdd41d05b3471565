"""Waiting with an end: for a ring of a bell, and for what tells nobody when it changes, such as a table."""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_graphile import Database
from trio_graphile._model.bell import Bell

PATIENCE = 20.0
"""How many seconds a test waits for what should come at once."""


async def wait_for_ring(bell: Bell, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until a condition holds. The bell rings whenever it may have changed."""
    with trio.fail_after(patience):
        while not condition():
            await bell.wait()


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what tells nobody when it changes."""
    with trio.fail_after(PATIENCE):
        while True:
            if condition():
                return
            await trio.lowlevel.checkpoint()


async def wait_until_true(
    database: Database, sql: str, *arguments: object, patience: float = PATIENCE
) -> None:
    """Wait until a query says true: a server tells nobody when what it is asked about changes."""
    with trio.fail_after(patience):
        while not await database.fetch_value(sql, *arguments):
            pass
