"""A schema for a while: made for one measurement, under a name of its own, and dropped afterwards."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator

import attrs
import trio

from trio_graphile._database.database import Database, open_database
from trio_graphile._database.schema import migrate
from trio_graphile._database.statement import Statement
from trio_graphile._model.options import DatabaseOptions

_PREFIX = "trio_graphile_bench_"
_DROP_TIMEOUT = 60.0

DROP_SCHEMA = Statement("drop schema if exists {schema} cascade")


@contextlib.asynccontextmanager
async def scratch_schema(url: str | None, options: DatabaseOptions) -> AsyncIterator[Database]:
    """Lend the database with a new schema, which nobody else knows of, and drop that in any case.

    Raises what `open_database` and `migrate` do.
    """
    name = f"{_PREFIX}{secrets.token_hex(6)}"
    async with open_database(url, attrs.evolve(options, schema=name)) as database:
        try:
            async with database.connection() as connection:
                await migrate(connection, name)
            yield database
        finally:
            with trio.move_on_after(_DROP_TIMEOUT, shield=True):
                await database.execute(DROP_SCHEMA)
