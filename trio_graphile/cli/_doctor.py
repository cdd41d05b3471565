"""`trio-graphile doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence

import attrs

from trio_graphile._client import Client
from trio_graphile._database import examine, fleet
from trio_graphile._database.database import Database, open_database
from trio_graphile._database.schema import check_schema, own_migrations
from trio_graphile._database.schema_plan import plan_migration
from trio_graphile._exceptions import GraphileError, SchemaError, StatementFailed
from trio_graphile._model.diagnosis import Finding, Level, examine_queue, examine_server
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags
from trio_graphile.cli._output import print_json, print_table
from trio_graphile.cli._streams import harmless

_MIGRATE = "trio-graphile migrate (with --dry-run it only says what it would do)"


async def doctor(*, common: CommonFlags = NOTHING_GIVEN) -> None:
    """Look at the server and the queue, and say what is wrong and what to do about it."""
    settings = common.settings()
    # As if a pooler stood between: whether one does is a question that has to be asked first.
    options = attrs.evolve(settings.database, prepared_statements=False)
    async with open_database(settings.database.url, options) as database:
        findings = [
            Finding("connection", Level.OK, f"{database.address} answers"),
            *[finding async for finding in _look(database)],
        ]
    if common.as_json:
        print_json(findings)
    else:
        _print(findings)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if problems:
        raise GraphileError(f"{problems} {'problem' if problems == 1 else 'problems'} found: see above")


async def _look(database: Database) -> AsyncIterator[Finding]:
    server = await examine.look_at_server(database)
    for finding in examine_server(server, await examine.list_holdbacks(database)):
        yield finding
    schema, is_readable = await _look_at_schema(database)
    yield schema
    if not is_readable:
        return
    try:
        for finding in await _look_at_queue(database):
            yield finding
    except StatementFailed as error:
        yield Finding("queue", Level.PROBLEM, f"it cannot be read: {error}", "grant our role what it needs")


async def _look_at_schema(database: Database) -> tuple[Finding, bool]:
    """Return what is to be said of the schema, and whether there is a queue in it to look at."""
    async with database.connection() as connection:
        state = await check_schema(connection, database.schema)
    name = f"schema {database.schema}"
    try:
        plan = plan_migration(state, own_migrations())
    except SchemaError as error:
        return Finding("schema", Level.PROBLEM, f"{name}: {error}", "see docs/schema.md"), False
    if state.revision is None:
        return Finding("schema", Level.PROBLEM, f"{name} is not installed", _MIGRATE), False
    if not plan.is_empty:
        text = f"{name} is at revision {state.revision}, and lacks {len(plan.scripts)} of our migrations"
        return Finding("schema", Level.PROBLEM, text, _MIGRATE), True
    if plan.warning is not None:
        return Finding("schema", Level.WARNING, plan.warning, "upgrade trio-graphile"), True
    return Finding("schema", Level.OK, f"{name} is up to date, at revision {state.revision}"), True


async def _look_at_queue(database: Database) -> Sequence[Finding]:
    has_registry = await fleet.has_registry(database)
    workers = await Client(database).list_active_workers() if has_registry else []
    tasks = [
        task
        for worker in workers
        if not worker.is_stale and isinstance(worker.metadata, dict)
        for task in worker.metadata.get("tasks") or ()
    ]
    alive = {worker.worker_id: not worker.is_stale for worker in workers}
    return [*examine_queue(await examine.look_at_queue(database, alive=alive, tasks=tasks))]


def _print(findings: Sequence[Finding]) -> None:
    print_table(("level", "check", "finding"), [(f.level.value, f.check, f.text) for f in findings])
    advice = [finding for finding in findings if finding.advice is not None and finding.level is not Level.OK]
    for finding in advice:
        text = f"\n{finding.check}: {finding.text}\n    {finding.advice}"
        print(harmless(text, sys.stderr), file=sys.stderr)
