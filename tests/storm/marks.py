"""What handlers tell the referee: marks in a table on a server of its own, each committed at once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Literal, TypeAlias

import attrs
import trio

from trio_graphile import Database

What: TypeAlias = Literal["started", "finished", "interrupted", "failed"]

TABLE = """
    create table marks (
      id bigint primary key generated always as identity,
      at timestamptz not null default clock_timestamp(),
      token bigint not null,
      what text not null check (what in ('started', 'finished', 'interrupted', 'failed')),
      attempt integer,
      worker text not null,
      pid integer not null
    )
"""
ADD_MARK = """
    insert into marks (token, what, attempt, worker, pid)
    values ($1::bigint, $2::text, $3::integer, $4::text, $5::integer)
"""
_READ = """
    select id, extract(epoch from at)::float8 as at, token, what, attempt, worker, pid
    from marks
    where id > $1::bigint
    order by id
"""
_PATIENCE = 10.0
"""How long a mark may take, in seconds: the referee's server is never disturbed."""


@attrs.frozen(kw_only=True)
class Mark:
    """One row, with the time of the referee's server in seconds since 1970."""

    id: int
    at: float
    token: int
    what: What
    attempt: int | None
    worker: str
    pid: int


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
