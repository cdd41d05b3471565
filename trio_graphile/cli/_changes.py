"""`trio-graphile complete`, `fail`, `reschedule`, `remove` and `cancel`: changes of jobs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import attrs
from cyclopts import Parameter

from trio_graphile._database import inspection
from trio_graphile._database.connection import Connection
from trio_graphile._exceptions import GraphileError
from trio_graphile._job_client import JobClient
from trio_graphile._model.cancellation import DEFAULT_REASON
from trio_graphile._model.counted import counted
from trio_graphile._model.inspection import ListedJob
from trio_graphile._model.job_json import shown_change
from trio_graphile._model.jobs import ChangedJobs, Job
from trio_graphile.cli._connect import open_client
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import NOTHING_GIVEN, Common, CommonFlags
from trio_graphile.cli._output import print_json
from trio_graphile.cli._streams import harmless
from trio_graphile.cli._values import NOW, Time

_MANUAL_FAILURE = "Manually marked as failed"


async def complete(
    *ids: Annotated[int, Parameter(required=True)], common: CommonFlags = NOTHING_GIVEN
) -> None:
    """Delete jobs as if they had succeeded.

    Args:
        ids: Their ids.
    """
    await _change("completed", ids, common, lambda client, _: client.complete_jobs(ids))


async def fail(
    *ids: Annotated[int, Parameter(required=True)],
    reason: Annotated[str, Parameter(alias="-r")] = _MANUAL_FAILURE,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Fail jobs for good.

    Args:
        ids: Their ids.
        reason: What is recorded as their error.
    """
    await _change("failed", ids, common, lambda client, _: client.permanently_fail_jobs(ids, reason))


async def reschedule(
    *ids: Annotated[int, Parameter(required=True)],
    now: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    run_at: Time | None = None,
    priority: int | None = None,
    attempts: int | None = None,
    max_attempts: int | None = None,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Change the time, priority and attempts of jobs.

    Args:
        ids: Their ids.
        now: The jobs may run at once.
        run_at: The jobs run at this time at the earliest.
        priority: Lower numbers run first.
        attempts: How many attempts count as used: 0 gives all back.
        max_attempts: How many attempts they have.
    """
    if now and run_at is not None:
        raise UsageError("--now and --run-at exclude each other")
    chosen: dict[str, Any] = {"priority": priority, "attempts": attempts, "max_attempts": max_attempts}
    if not now and run_at is None and all(value is None for value in chosen.values()):
        raise UsageError(
            "nothing to change: give at least one of --now, --run-at, --priority, --attempts, --max-attempts"
        )

    async def change(client: JobClient, connection: Connection) -> ChangedJobs:
        time = await inspection.now(connection) if now or run_at == NOW else run_at
        return await client.reschedule_jobs(ids, run_at=time, **chosen)

    await _change("rescheduled", ids, common, change)


async def remove(key: str, /, *, common: CommonFlags = NOTHING_GIVEN) -> None:
    """Delete the job under a key. One that runs is not interrupted, but not tried again.

    Args:
        key: The job's key.
    """
    async with open_client(common) as client:
        job = await client.remove_job(key)
    if job is None:
        raise GraphileError(f"no job has the key {key!r}")
    is_detached = job.key is None
    if common.as_json:
        print_json({"removed_key": key, "job_id": job.id, "detached": is_detached})
    elif is_detached:
        print(harmless(f"detached job {job.id}: {job.locked_by} runs it, and it is not tried again"))
    else:
        print(f"removed job {job.id}")


async def cancel(
    *ids: Annotated[int, Parameter(required=True)],
    outcome: Literal["fail", "return"] = "fail",
    reason: Annotated[str, Parameter(alias="-r")] = DEFAULT_REASON,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Interrupt the jobs that run, in any worker, and fail those that wait.

    Args:
        ids: Their ids.
        outcome: Whether an interrupted job fails for good, or goes back to the queue.
        reason: What is recorded as their error.
    """
    async with open_client(common) as client, _watching(client, ids) as (using, _, seen):
        cancelled = await using.cancel_jobs(ids, outcome=outcome, reason=reason)
    if common.as_json:
        jobs = [shown_change(job, seen.get(job.id)) for job in cancelled.jobs]
        print_json(attrs.asdict(cancelled, recurse=False) | {"jobs": jobs})
    else:
        if cancelled.requested_ids or not cancelled.jobs:
            print(_count("told the workers of", cancelled.requested_ids))
        if cancelled.jobs:
            print(_count("failed", [job.id for job in cancelled.jobs]))
    _explain_skipped(cancelled.skipped_ids, seen)


# --- what they have in common -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _watching(
    client: Any, ids: Sequence[int]
) -> AsyncIterator[tuple[JobClient, Connection, dict[int, ListedJob]]]:
    """Lend a client for one transaction, and the jobs as they were when it began."""
    async with client.database.transaction() as connection:
        yield client.using(connection), connection, await inspection.get_listed(connection, ids)


async def _change(
    verb: str,
    ids: Sequence[int],
    common: Common,
    change: Callable[[JobClient, Connection], Awaitable[ChangedJobs]],
) -> None:
    async with open_client(common) as client, _watching(client, ids) as (using, connection, seen):
        changed = await change(using, connection)
    if common.as_json:
        print_json([shown_change(job, seen.get(job.id)) for job in changed.jobs])
    else:
        print(_count(verb, [job.id for job in changed.jobs]))
    _explain_skipped(changed.skipped_ids, seen)


def _count(verb: str, ids: Sequence[int]) -> str:
    numbers = f": {', '.join(map(str, ids))}" if ids else ""
    return f"{verb} {counted(len(ids), 'job')}{numbers}"


def _explain_skipped(ids: Sequence[int], seen: dict[int, ListedJob]) -> None:
    if ids:
        reasons = "; ".join(_why_skipped(id_, None if id_ not in seen else seen[id_].job) for id_ in ids)
        raise GraphileError(f"left alone: {reasons}")


def _why_skipped(job_id: int, job: Job | None) -> str:
    if job is None:
        return f"there is no job {job_id}"
    if job.locked_by is None:
        return f"job {job_id} does not run"
    return f"job {job_id} is locked by {job.locked_by} (cancel interrupts it, force-unlock if that is dead)"
