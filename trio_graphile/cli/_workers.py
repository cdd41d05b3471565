"""`trio-graphile workers`, `force-unlock` and `sweep-stale-workers`."""

from __future__ import annotations

from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from trio_graphile._model.counted import counted
from trio_graphile._model.inspection import WorkerStatus
from trio_graphile._model.options import SweepOptions
from trio_graphile.cli._connect import open_client
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags, Switch
from trio_graphile.cli._output import note, print_json, print_table
from trio_graphile.cli._values import Duration

_DEFAULTS = SweepOptions()


async def workers(
    *, stale_threshold: Duration = _DEFAULTS.sweep_threshold, common: CommonFlags = NOTHING_GIVEN
) -> None:
    """List the registered workers, and the others that have jobs or queues locked.

    Args:
        stale_threshold: A worker that has sent no heartbeat for this long is stale.
    """
    async with open_client(common) as client:
        found = await client.workers(stale_threshold)
    if common.as_json:
        print_json([_as_json(worker) for worker in found])
    else:
        columns = (
            "worker_id",
            "locked_jobs",
            "locked_queues",
            "heartbeat",
            "started",
            "state",
            "presence",
            "host",
            "pid",
        )
        print_table(columns, [_row(worker) for worker in found])


def _as_json(worker: WorkerStatus) -> dict[str, Any]:
    locks = attrs.asdict(worker, filter=lambda field, _: field.name != "registration")
    life = (
        dict.fromkeys(("last_heartbeat_at", "started_at", "metadata", "is_stale"))
        if worker.registration is None
        else attrs.asdict(worker.registration, filter=lambda field, _: field.name != "worker_id")
    )
    return {**locks, **life}


def _row(worker: WorkerStatus) -> list[object]:
    locks: list[object] = [worker.worker_id, worker.locked_jobs, worker.locked_queues]
    if (life := worker.registration) is None:
        return [*locks, None, None, "unregistered", None, None, None]
    says = life.metadata if isinstance(life.metadata, dict) else {}
    state = "stale" if life.is_stale else "alive"
    presence = {None: None, True: "lock", False: "lease only"}[life.has_lock]
    about = [life.last_heartbeat_at, life.started_at, state, presence, says.get("host"), says.get("pid")]
    return [*locks, *about]


async def force_unlock(
    *worker_ids: Annotated[str, Parameter(required=True)], common: CommonFlags = NOTHING_GIVEN
) -> None:
    """Unlock the jobs and queues of workers that are gone for good.

    Args:
        worker_ids: Their ids, as `workers` lists them.
    """
    async with open_client(common) as client, client.database.transaction() as connection:
        using = client.using(connection)
        freed = [worker for worker in await using.workers() if worker.worker_id in worker_ids]
        await using.force_unlock_workers(worker_ids)
    alive = [w.worker_id for w in freed if w.registration is not None and not w.registration.is_stale]
    for worker_id in sorted(alive):
        note(f"{worker_id} is alive: jobs that it still runs may run a second time at the same time")
    jobs, queues = sum(w.locked_jobs for w in freed), sum(w.locked_queues for w in freed)
    if common.as_json:
        print_json({"unlocked_workers": worker_ids, "unlocked_jobs": jobs, "unlocked_queues": queues})
    else:
        freed_rows = f"{counted(jobs, 'job')} and {counted(queues, 'queue')}"
        print(f"unlocked {counted(len(worker_ids), 'worker')}: {freed_rows} are free again")


async def sweep_stale_workers(
    *,
    sweep_threshold: Duration = _DEFAULTS.sweep_threshold,
    recovery_delay: Duration = _DEFAULTS.recovery_delay,
    foreign_threshold: Duration = _DEFAULTS.foreign_threshold,
    orphan_threshold: Duration = _DEFAULTS.orphan_threshold,
    dry_run: Switch = False,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Give back the jobs of workers that died, as workers with recovery do automatically.

    Args:
        sweep_threshold: After how long without a sign of life a worker counts as dead.
        recovery_delay: How long the jobs wait before they run again.
        foreign_threshold: The same for registered workers of another kind, if it is longer.
        orphan_threshold: The age at which locks of workers that never register count as abandoned.
        dry_run: Only print which workers are dead.
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
    dead = counted(len(report.worker_ids), "worker")
    if common.as_json:
        print_json({"worker_ids": report.worker_ids, "recovered_count": report.recovered_jobs})
    elif not report.worker_ids:
        print("no dead workers")
    elif dry_run:
        print(f"would recover {dead}: {ids}")
    else:
        print(f"recovered {counted(report.recovered_jobs, 'job')} from {dead}: {ids}")
