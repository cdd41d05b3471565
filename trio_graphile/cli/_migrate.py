"""`trio-graphile migrate`: brings the schema to the state that this version needs."""

from __future__ import annotations

from trio_graphile._client import Client
from trio_graphile._database.schema import MigrationReport, check_schema, own_migrations
from trio_graphile._database.schema_plan import Plan, SchemaState, plan_migration
from trio_graphile._model.counted import counted
from trio_graphile.cli._connect import open_client
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags, Switch
from trio_graphile.cli._output import print_json


async def migrate(*, dry_run: Switch = False, common: CommonFlags = NOTHING_GIVEN) -> None:
    """Install the schema, or bring it up to date.

    Args:
        dry_run: Only print what would be done.
    """
    async with open_client(common) as client:
        if dry_run:
            await _foresee(client, common)
            return
        report = await client.migrate()
    if common.as_json:
        print_json({"migrated": True, "revisions": report.revisions, "migrations": report.applied})
    else:
        print(f"schema {client.database.schema}: {_describe(report)}")


async def _foresee(client: Client, common: CommonFlags) -> None:
    schema = client.database.schema
    async with client.database.connection() as connection:
        found = await check_schema(connection, schema)
    plan = plan_migration(found, own_migrations())
    names = [migration.name for migration in plan.scripts]
    if common.as_json:
        print_json({"migrated": False, "revisions": plan.revisions, "migrations": names})
        return
    print(f"schema {schema}: {_describe_plan(found, plan)}")
    for name in names:
        print(f"    {name}")
    if plan.warning is not None:
        print(f"    {plan.warning}")


def _describe(report: MigrationReport) -> str:
    if not report.revisions and not report.applied:
        return "up to date already"
    if report.found.revision is None:
        return "installed"
    steps = {"revisions": report.revisions, "own migrations": report.applied}
    done = [f"{kind} {', '.join(map(str, ids))}" for kind, ids in steps.items() if ids]
    return f"brought up to date ({'; '.join(done)})"


def _describe_plan(found: SchemaState, plan: Plan) -> str:
    if plan.is_empty:
        return "up to date already"
    if found.revision is None:
        return f"would be installed, by {counted(len(plan.scripts), 'migration')} in one transaction:"
    revisions = f"revisions {', '.join(map(str, plan.revisions))} recorded, and " if plan.revisions else ""
    return (
        f"is at revision {found.revision}; would be brought up to date in one transaction: "
        f"{revisions}{counted(len(plan.scripts), 'migration')} applied:"
    )
