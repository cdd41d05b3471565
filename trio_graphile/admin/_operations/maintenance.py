"""Maintenance of the schema, and of old jobs, tasks, queues and workers."""

from __future__ import annotations

import re
from typing import assert_never

from trio_graphile._database.schema import check_schema, own_migrations
from trio_graphile._database.schema_plan import plan_migration
from trio_graphile._model.counted import counted
from trio_graphile._model.jobs import Cleanup
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import DeletedAnswer, MaintenanceAnswer
from trio_graphile.admin._operations.auditing import audited
from trio_graphile.admin._operations.refusals import Forbidden
from trio_graphile.admin._operations.requests import MaintenanceRequest
from trio_graphile.admin._options import Access, Action

_NOTHING_TO_MIGRATE = "the schema is up to date already"


async def maintain(context: Context, access: Access, request: MaintenanceRequest) -> MaintenanceAnswer:
    """Migrate, clean up, unlock or sweep. Raises what the client's methods do."""
    action = Action(request.action)
    if not access.allows(action):
        raise Forbidden(f"{access.user} may not {action.value} here")
    with audited(context, access, action) as trace:
        match request.action:
            case "migrate":
                answer = await (_foresee(context) if request.dry_run else _migrate(context))
            case "cleanup":
                answer = await _clean_up(context, request)
            case "force-unlock":
                answer = await _unlock(context, request)
            case "sweep-stale-workers":
                answer = await _sweep(context, request)
            case _:
                assert_never(request.action)
        trace.outcome = {"message": answer.message, "dry_run": request.dry_run}
        if answer.worker_ids:
            trace.outcome["worker_ids"] = answer.worker_ids
    return answer


async def _migrate(context: Context) -> MaintenanceAnswer:
    report = await context.client.migrate()
    is_changed = report.revisions or report.applied
    return MaintenanceAnswer(
        message="the schema was brought up to date" if is_changed else _NOTHING_TO_MIGRATE,
        revisions=[*report.revisions],
        migrations=[str(number) for number in report.applied],
    )


async def _foresee(context: Context) -> MaintenanceAnswer:
    database = context.client.database
    async with database.connection() as connection:
        found = await check_schema(connection, database.schema)
    plan = plan_migration(found, own_migrations())
    names = [migration.name for migration in plan.scripts]
    would = f"{counted(len(names), 'migration')} would be applied in one transaction"
    return MaintenanceAnswer(
        message=_NOTHING_TO_MIGRATE if plan.is_empty else would,
        revisions=[*plan.revisions],
        migrations=names,
    )


async def _clean_up(context: Context, request: MaintenanceRequest) -> MaintenanceAnswer:
    kinds = [*dict.fromkeys(map(cleanup_of, request.cleanup_tasks))]
    deleted = await context.client.cleanup(kinds, keep_tasks=request.keep_tasks)
    parts = [DeletedAnswer(task=_hyphenated(kind), count=deleted[kind]) for kind in kinds]
    message = ", ".join(f"{part.task}: {part.count} deleted" for part in parts)
    return MaintenanceAnswer(message=message, deleted=parts)


def cleanup_of(name: str) -> Cleanup:
    """Return the kind of cleanup for a name, in any spelling."""
    return Cleanup(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_"))


def _hyphenated(kind: Cleanup) -> str:
    return kind.value.replace("_", "-")


async def _unlock(context: Context, request: MaintenanceRequest) -> MaintenanceAnswer:
    ids = [*dict.fromkeys(request.worker_ids)]
    await context.client.force_unlock_workers(ids)
    return MaintenanceAnswer(message=f"unlocked {counted(len(ids), 'worker')}", worker_ids=ids)


async def _sweep(context: Context, request: MaintenanceRequest) -> MaintenanceAnswer:
    report = await context.client.sweep_stale_workers(
        request.sweep_threshold_secs, request.recovery_delay_secs, dry_run=request.dry_run
    )
    found = counted(len(report.worker_ids), "worker")
    if not report.worker_ids:
        message = "no stale workers found"
    elif request.dry_run:
        message = f"would recover {found}"
    else:
        message = f"recovered {counted(report.recovered_jobs, 'job')} from {found}"
    return MaintenanceAnswer(
        message=message, worker_ids=[*report.worker_ids], recovered_jobs=report.recovered_jobs
    )
