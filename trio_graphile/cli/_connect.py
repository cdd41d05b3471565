"""Opens a client from the flags of a command."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from trio_graphile._client import Client
from trio_graphile._database.database import open_database
from trio_graphile._database.inspection import list_hidden
from trio_graphile._model.diagnosis import POLICIES, hiding
from trio_graphile.cli._flags import Common
from trio_graphile.cli._output import note


@contextlib.asynccontextmanager
async def open_client(common: Common) -> AsyncIterator[Client]:
    """Open the database that the settings name, without installing anything.

    Notes on standard error if row security may hide rows from the role.
    """
    settings = common.settings()
    async with open_database(settings.database.url, settings.database) as database:
        if hidden := await list_hidden(database):
            note(f"{hiding(hidden)}: {POLICIES}")
        yield Client(database)
