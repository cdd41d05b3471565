"""The database of the examples: the one that $DATABASE_URL names, or else a PostgreSQL of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_graphile.embedded import embedded_postgres


@asynccontextmanager
async def database_url() -> AsyncIterator[str]:
    if url := os.environ.get("DATABASE_URL"):
        yield url
    else:
        async with embedded_postgres() as server:
            yield server.url
