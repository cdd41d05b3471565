"""`trio-graphile migrate`: the schema as this version wants it."""

from __future__ import annotations

from trio_graphile._client import Client
from trio_graphile._database.database import open_database
from trio_graphile._database.schema import MigrationReport
from trio_graphile.cli._flags import DATABASE_DEFAULTS, DatabaseFlags, DatabaseUrl, Verbose, configure_logging


async def migrate(
    *,
    database_url: DatabaseUrl = None,
    database_options: DatabaseFlags = DATABASE_DEFAULTS,
    verbose: Verbose = False,
) -> None:
    """Install the schema, or bring it up to date."""
    configure_logging(verbose=verbose)
    async with open_database(database_url, database_options) as database:
        report = await Client(database).migrate()
    print(f"schema {database.schema}: {_describe(report)}")


def _describe(report: MigrationReport) -> str:
    if not report.revisions and not report.applied:
        return "up to date already"
    if report.found.revision is None:
        return "installed"
    steps = {"revisions": report.revisions, "own migrations": report.applied}
    done = [f"{kind} {', '.join(map(str, ids))}" for kind, ids in steps.items() if ids]
    return f"brought up to date ({'; '.join(done)})"
