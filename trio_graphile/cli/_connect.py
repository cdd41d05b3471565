"""Opens a client from the flags of a command."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from trio_graphile._client import Client
from trio_graphile._database.database import open_database
from trio_graphile._database.inspection import hides_rows
from trio_graphile.cli._flags import Common
from trio_graphile.cli._output import note


@contextlib.asynccontextmanager
async def open_client(common: Common) -> AsyncIterator[Client]:
    """Open the database that the settings name, without installing anything.

    Notes on standard error if row security may hide rows from the role.
    """
    settings = common.settings()
    async with open_database(settings.database.url, settings.database) as database:
        if await hides_rows(database):
            note("row level security hides jobs from this role: connect as the owner, or give it BYPASSRLS")
        yield Client(database)
