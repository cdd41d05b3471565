"""`trio-graphile doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence

import attrs

from trio_graphile._client import Client
from trio_graphile._database import probe, worker_registry
from trio_graphile._database.database import Database, open_database
from trio_graphile._exceptions import GraphileError, StatementFailed
from trio_graphile._model.counted import counted
from trio_graphile._model.diagnosis import Finding, Level, diagnose_queue, diagnose_server
from trio_graphile._model.pooling import SettingsFacts
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags
from trio_graphile.cli._output import print_json, print_table
from trio_graphile.cli._streams import harmless


async def doctor(*, common: CommonFlags = NOTHING_GIVEN) -> None:
    """Check the server and the queue, and say what is wrong and what to do about it."""
    settings = common.settings()
    # As behind a pooler: whether there is one is the first thing to find out.
    options = attrs.evolve(settings.database, prepared_statements=False)
    async with open_database(settings.database.url, options) as database:
        of_sessions = await probe.probe_settings(settings.database.url, settings.database)
        findings = [
            Finding("connection", Level.OK, f"{database.address} answers"),
            *[finding async for finding in _look(database, of_sessions)],
        ]
    if common.as_json:
        print_json(findings)
    else:
        _print(findings)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if problems:
        raise GraphileError(f"{counted(problems, 'problem')} found: see above")


async def _look(database: Database, settings: SettingsFacts) -> AsyncIterator[Finding]:
    server = await probe.probe_server(database, settings)
    for finding in diagnose_server(server, await probe.list_holdbacks(database)):
        yield finding
    schema, is_readable = await probe.probe_schema(database)
    yield schema
    if not is_readable:
        return
    try:
        for finding in await _findings_of_queue(database):
            yield finding
    except StatementFailed as error:
        yield probe.unreadable_queue(error)


async def _findings_of_queue(database: Database) -> Sequence[Finding]:
    has_registry = await worker_registry.has_registry(database)
    workers = await Client(database).list_active_workers() if has_registry else []
    tasks = [task for worker in workers if not worker.is_stale for task in worker.tasks or ()]
    alive = {worker.worker_id: not worker.is_stale for worker in workers}
    lockless = {w.worker_id: w.why_no_lock for w in workers if not w.is_stale and w.why_no_lock is not None}
    facts = await probe.probe_queue(database, alive=alive, tasks=tasks, lockless=lockless)
    return [*diagnose_queue(facts)]


def _print(findings: Sequence[Finding]) -> None:
    print_table(("level", "check", "finding"), [(f.level.value, f.check, f.text) for f in findings])
    advice = [finding for finding in findings if finding.advice is not None and finding.level is not Level.OK]
    for finding in advice:
        text = f"\n{finding.check}: {finding.text}\n    {finding.advice}"
        print(harmless(text, sys.stderr), file=sys.stderr)
