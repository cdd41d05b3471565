"""`trio-graphile workers`, `force-unlock` and `sweep-stale-workers`."""

from __future__ import annotations

from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from trio_graphile._database import fleet, inspect
from trio_graphile._model.inspection import LockHolder
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import ActiveWorker
from trio_graphile.cli._connect import open_client
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags, Switch
from trio_graphile.cli._output import note, print_json, print_table
from trio_graphile.cli._values import Duration

_DEFAULTS = SweepOptions()


async def workers(
    *, stale_threshold: Duration = _DEFAULTS.sweep_threshold, common: CommonFlags = NOTHING_GIVEN
) -> None:
    """List the workers that are registered, and whoever else has jobs or queues locked.

    Args:
        stale_threshold: A worker that has sent no heartbeat for so long is stale.
    """
    async with open_client(common) as client:
        holders = await inspect.list_lock_holders(client.database)
        has_registry = await fleet.has_registry(client.database)
        registered = await client.list_active_workers(stale_threshold) if has_registry else []
    found = _joined(registered, holders)
    if common.as_json:
        print_json([_as_json(worker, holder) for worker, holder in found])
    else:
        columns = (
            "worker_id",
            "locked_jobs",
            "locked_queues",
            "heartbeat",
            "started",
            "state",
            "host",
            "pid",
        )
        print_table(columns, [_row(worker, holder) for worker, holder in found])


def _joined(
    registered: list[ActiveWorker], holders: list[LockHolder]
) -> list[tuple[ActiveWorker | None, LockHolder]]:
    """Return each worker once: those that are registered, then those known by their locks alone."""
    by_id = {holder.worker_id: holder for holder in holders}
    known: list[tuple[ActiveWorker | None, LockHolder]] = [
        (worker, by_id.pop(worker.worker_id, LockHolder(worker_id=worker.worker_id))) for worker in registered
    ]
    return [*known, *((None, holder) for holder in by_id.values())]


def _as_json(worker: ActiveWorker | None, holder: LockHolder) -> dict[str, Any]:
    life = (
        dict.fromkeys(("last_heartbeat_at", "started_at", "metadata", "is_stale"))
        if worker is None
        else attrs.asdict(worker, filter=lambda field, _: field.name != "worker_id")
    )
    return {**attrs.asdict(holder), **life}


def _row(worker: ActiveWorker | None, holder: LockHolder) -> list[object]:
    locks: list[object] = [holder.worker_id, holder.locked_jobs, holder.locked_queues]
    if worker is None:
        return [*locks, None, None, "unregistered", None, None]
    says = worker.metadata if isinstance(worker.metadata, dict) else {}
    state = "stale" if worker.is_stale else "alive"
    return [*locks, worker.last_heartbeat_at, worker.started_at, state, says.get("host"), says.get("pid")]


async def force_unlock(
    *worker_ids: Annotated[str, Parameter(required=True)], common: CommonFlags = NOTHING_GIVEN
) -> None:
    """Take their jobs and queues from workers that are gone for good.

    Args:
        worker_ids: Their ids, as `workers` lists them.
    """
    async with open_client(common) as client, client.database.transaction() as connection:
        using = client.using(connection)
        holders = {holder.worker_id: holder for holder in await inspect.list_lock_holders(connection)}
        has_registry = await fleet.has_registry(connection)
        alive = {
            w.worker_id for w in (await using.list_active_workers() if has_registry else ()) if not w.is_stale
        }
        await using.force_unlock_workers(worker_ids)
    for worker_id in sorted(alive.intersection(worker_ids)):
        note(f"{worker_id} is alive: jobs that it still runs may run a second time at the same time")
    freed = [holders.get(worker_id, LockHolder(worker_id=worker_id)) for worker_id in worker_ids]
    jobs, queues = sum(h.locked_jobs for h in freed), sum(h.locked_queues for h in freed)
    if common.as_json:
        print_json({"unlocked_workers": worker_ids, "unlocked_jobs": jobs, "unlocked_queues": queues})
    else:
        kind = "worker" if len(worker_ids) == 1 else "workers"
        print(f"unlocked {len(worker_ids)} {kind}: {jobs} jobs and {queues} queues are free again")


async def sweep_stale_workers(
    *,
    sweep_threshold: Duration = _DEFAULTS.sweep_threshold,
    recovery_delay: Duration = _DEFAULTS.recovery_delay,
    foreign_threshold: Duration = _DEFAULTS.foreign_threshold,
    orphan_threshold: Duration = _DEFAULTS.orphan_threshold,
    dry_run: Switch = False,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Give back the jobs of workers that died, as workers with recovery do by themselves.

    Args:
        sweep_threshold: After how long without a sign of life a worker is taken for dead.
        recovery_delay: How long the jobs wait before they run again.
        foreign_threshold: The same for registered workers of another kind, if it is longer.
        orphan_threshold: After how long locks of workers that never register are taken for abandoned.
        dry_run: Only say which workers are dead.
    """
    async with open_client(common) as client:
        report = await client.sweep_stale_workers(
            sweep_threshold,
            recovery_delay,
            foreign_threshold=foreign_threshold,
            orphan_threshold=orphan_threshold,
            dry_run=dry_run,
        )
    ids = ", ".join(report.worker_ids)
    count = f"{len(report.worker_ids)} {'worker' if len(report.worker_ids) == 1 else 'workers'}"
    if common.as_json:
        print_json({"worker_ids": report.worker_ids, "recovered_count": report.recovered_jobs})
    elif not report.worker_ids:
        print("no dead workers")
    elif dry_run:
        print(f"would recover {count}: {ids}")
    else:
        print(f"recovered {report.recovered_jobs} jobs from {count}: {ids}")
