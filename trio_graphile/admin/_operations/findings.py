"""The findings of `trio-graphile doctor`, without reading the whole queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from trio_graphile._database import probe
from trio_graphile._database.inspection import now
from trio_graphile._database.summaries.health import look_at_health
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.diagnosis import Finding, Lock, diagnose_queue, diagnose_server
from trio_graphile._model.listing import FoundJob
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import FindingsAnswer
from trio_graphile.admin._operations.workers import find_locked, list_registered


async def look_for_findings(context: Context) -> FindingsAnswer:
    """Check the server, the schema and the queue; return what is wrong and what to do about it.

    Takes up to five seconds if the server sends no notifications.
    """
    server = await probe.probe_server(context.database)
    findings = [*diagnose_server(server, await probe.list_holdbacks(context.database))]
    schema, is_readable = await probe.probe_schema(context.database)
    findings.append(schema)
    if is_readable:
        try:
            findings += await _findings_of_queue(context)
        except StatementFailed as error:
            findings.append(probe.unreadable_queue(error))
    return FindingsAnswer(findings=findings)


async def _findings_of_queue(context: Context) -> list[Finding]:
    workers = await list_registered(context)
    alive = {worker.worker_id: not worker.is_stale for worker in workers}
    locked = await find_locked(context, workers)
    facts = await look_at_health(
        context.database,
        alive=alive,
        tasks=[task for worker in workers if not worker.is_stale for task in worker.tasks or ()],
        locks=locks_of(locked.jobs, alive, await now(context.database)),
    )
    return [*diagnose_queue(facts)]


def locks_of(locked: Iterable[FoundJob], alive: Mapping[str, bool], now_: datetime) -> list[Lock]:
    """Return the locks of some jobs by holder, without the number of jobs that wait for a queue."""
    by_holder: dict[str, list[FoundJob]] = {}
    for found in locked:
        by_holder.setdefault(found.listed.job.locked_by or "", []).append(found)
    return [
        Lock(
            worker_id=holder,
            jobs=len(jobs),
            queues=sum(found.listed.job.queue_name is not None for found in jobs),
            waiting=0,
            seconds=min((now_ - (found.listed.job.locked_at or now_)).total_seconds() for found in jobs),
            is_alive=alive.get(holder),
        )
        for holder, jobs in sorted(by_holder.items())
    ]
