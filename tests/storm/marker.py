"""Writes marks in async handlers, and reads them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import trio

from tests.storm.marks import ADD_MARK, Mark, What
from trio_graphile import Database

_READ = """
    select id, extract(epoch from at)::float8 as at, token, what, attempt, worker, pid
    from marks
    where id > $1::bigint
    order by id
"""
_PATIENCE = 10.0
"""How long a mark may take, in seconds: the referee's server is never disturbed."""


@attrs.frozen
class Marker:
    """Writes the marks of one async handler's run."""

    database: Database
    worker: str
    pid: int
    attempt: int

    async def mark(self, what: What, *tokens: int) -> None:
        """Write a mark for each token, whatever is cancelled meanwhile."""
        with trio.fail_after(_PATIENCE, shield=True):
            for token in tokens:
                await self.database.execute(ADD_MARK, token, what, self.attempt, self.worker, self.pid)

    @contextlib.asynccontextmanager
    async def run_of(self, *tokens: int) -> AsyncIterator[None]:
        """Mark the beginning of the block and its end, whichever that is."""
        try:
            await self.mark("started", *tokens)
            yield
        except trio.Cancelled:
            await self.mark("interrupted", *tokens)  # noqa: ASYNC102  # it shields itself
            raise
        except BaseException:
            await self.mark("failed", *tokens)
            raise
        await self.mark("finished", *tokens)


async def read_marks(database: Database, after: int = 0) -> list[Mark]:
    """Return the marks whose numbers are higher. One that is lower may be committed later."""
    return [Mark(**dict(row)) for row in await database.fetch(_READ, after)]
