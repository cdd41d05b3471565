"""Changes jobs: those with some ids, or all that match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import attrs

from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.inspection import now
from trio_graphile._database.search.find import find_jobs
from trio_graphile._job_client import JobClient
from trio_graphile._model.cancellation import DEFAULT_REASON, CancelledJobs
from trio_graphile._model.counted import counted
from trio_graphile._model.jobs import ChangedJobs
from trio_graphile._model.listing import FoundJob, JobSearch
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import ChangeAnswer, RemovedAnswer, UnchangedJob
from trio_graphile.admin._operations.auditing import audited
from trio_graphile.admin._operations.payloads import changed_for, changed_jobs_for
from trio_graphile.admin._operations.refusals import Forbidden
from trio_graphile.admin._operations.requests import ActionRequest, RemoveRequest
from trio_graphile.admin._options import Access, Action

MANUAL_FAILURE = "Manually marked as failed"
_AT_ONCE = 100
"""How many jobs one statement changes: its answer has their payloads, however large."""
_DONE = {
    "complete": "completed",
    "fail": "failed",
    "run-now": "made due",
    "reschedule": "rescheduled",
    "cancel": "cancelled",
}


@attrs.frozen
class Chosen:
    """The jobs to change, as they were before."""

    ids: Sequence[int]
    seen: dict[int, FoundJob]
    next: str | None = None


async def act_on_jobs(context: Context, access: Access, request: ActionRequest) -> ChangeAnswer:
    """Change jobs, all in one transaction; return which were skipped, and why."""
    action = Action(request.action)
    if not access.allows(action):
        raise Forbidden(f"{access.user} may not {action.value} jobs")
    with audited(context, access, action) as trace:
        async with context.client.database.transaction() as connection:
            chosen = await _choose(connection, request)
            trace.ids = chosen.ids
            change = await _change(context.client.using(connection), connection, request, chosen.ids)
            unchanged = await _explain(connection, change.skipped_ids)
        trace.outcome = {"changed": len(change.jobs), "unchanged": len(unchanged)}
        if change.requested_ids:
            trace.outcome["requested"] = len(change.requested_ids)
    return ChangeAnswer(
        message=_message(request, change),
        jobs=await changed_jobs_for(context, change.jobs, chosen.seen),
        unchanged=unchanged,
        requested_ids=[*change.requested_ids],
        next=chosen.next,
    )


async def _choose(connection: Connection, request: ActionRequest) -> Chosen:
    if request.filter is None:
        ids = [*dict.fromkeys(request.ids)]
        return Chosen(ids, await _look_at(connection, ids))
    seen: dict[int, FoundJob] = {}
    after = request.after
    while len(seen) < request.limit:
        limit = min(_AT_ONCE, request.limit - len(seen))
        page = await find_jobs(connection, request.filter.as_search(limit=limit), after)
        seen |= {found.listed.job.id: found for found in page.jobs}
        after = page.next
        if after is None or not page.jobs:  # one window without a match is enough for one call
            break
    return Chosen([*seen], seen, after)


async def _look_at(executor: Executor, ids: Sequence[int]) -> dict[int, FoundJob]:
    pages = [await find_jobs(executor, JobSearch(ids=some, limit=len(some)), None) for some in _some_of(ids)]
    return {found.listed.job.id: found for page in pages for found in page.jobs}


def _some_of(ids: Sequence[int]) -> Sequence[tuple[int, ...]]:
    return [tuple(ids[start : start + _AT_ONCE]) for start in range(0, len(ids), _AT_ONCE)]


async def _change(
    client: JobClient, connection: Connection, request: ActionRequest, ids: Sequence[int]
) -> CancelledJobs:
    """Change the jobs; the answer has the form of that of a cancellation, whatever the change."""
    now_ = await now(connection) if request.action == "run-now" else None
    parts = [await _change_some(client, request, some, now_) for some in _some_of(ids)]
    return CancelledJobs(
        requested_ids=tuple(id_ for part in parts for id_ in getattr(part, "requested_ids", ())),
        jobs=tuple(job for part in parts for job in part.jobs),
        skipped_ids=tuple(id_ for part in parts for id_ in part.skipped_ids),
    )


async def _change_some(
    client: JobClient, request: ActionRequest, ids: Sequence[int], now_: Any
) -> ChangedJobs | CancelledJobs:
    reason = (request.reason or "").strip()
    match request.action:
        case "complete":
            return await client.complete_jobs(ids)
        case "fail":
            return await client.permanently_fail_jobs(ids, reason or MANUAL_FAILURE)
        case "cancel":
            return await client.cancel_jobs(ids, outcome=request.outcome, reason=reason or DEFAULT_REASON)
        case "run-now" | "reschedule":
            return await client.reschedule_jobs(
                ids,
                run_at=now_ or request.run_at,
                priority=request.priority,
                attempts=request.attempts,
                max_attempts=request.max_attempts,
            )
        case _:
            assert_never(request.action)


async def _explain(executor: Executor, ids: Sequence[int]) -> list[UnchangedJob]:
    found = await _look_at(executor, ids)
    return [UnchangedJob(id=id_, reason=why_unchanged(found.get(id_))) for id_ in ids]


def why_unchanged(found: FoundJob | None) -> str:
    """Return why a job was skipped."""
    if found is None:
        return "there is no such job"
    holder = found.listed.job.locked_by
    if holder is None:
        return "it does not run"
    return f"it is locked by {holder}: cancel interrupts it, force-unlock takes it from a worker that is dead"


def _message(request: ActionRequest, change: CancelledJobs) -> str:
    done = f"{_DONE[request.action]} {counted(len(change.jobs), 'job')}"
    if change.requested_ids:
        done += f", asked workers to interrupt {len(change.requested_ids)}"
    return done + (f", left {len(change.skipped_ids)} alone" if change.skipped_ids else "")


async def remove_by_key(context: Context, access: Access, request: RemoveRequest) -> RemovedAnswer:
    """Remove the job under a key, or detach it if it runs; return which, or that there was none."""
    with audited(context, access, Action.REMOVE) as trace:
        async with context.client.database.transaction() as connection:
            before = await find_jobs(connection, JobSearch(key=request.key, limit=1), None)
            job = await context.client.using(connection).remove_job(request.key)
        trace.ids = () if job is None else (job.id,)
    if job is None:
        return RemovedAnswer(message="no job has this key", removed="nothing", job=None)
    seen = {found.listed.job.id: found for found in before.jobs}.get(job.id)
    shown = changed_for(context, job, seen)
    if job.key is None:
        message = f"job {job.id} runs: it lost its key, and is not tried again"
        return RemovedAnswer(message=message, removed="key", job=shown)
    return RemovedAnswer(message=f"removed job {job.id}", removed="job", job=shown)
