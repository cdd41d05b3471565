"""Cancelling jobs from outside: a row for each request, and a notification for the worker of the job.

Only the rows count. A notification that is lost costs time, not the request: the worker also polls.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database import changes
from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.statement import Statement
from trio_graphile._model.cancellation import CancelledJobs, CancelOutcome, CancelRequest, within_reach

CANCEL_CHANNEL = "trio_graphile:cancel:"
"""The beginning of the channel of a worker; its id follows."""

LOCK_HOLDERS = Statement("""
    select jobs.id, jobs.locked_by
    from {schema}._private_jobs as jobs
    where jobs.id = any($1::bigint[])
    order by jobs.id
    for no key update
""")  # $1 job ids. Locked, so that none is claimed or ended between this look and what follows from it.

FORGET_OUTDATED = Statement("""
    delete from {schema}.trio_graphile_cancellations as cancellations
    where not exists (
      select from {schema}._private_jobs as jobs
      where jobs.id = cancellations.job_id
        and jobs.locked_by = cancellations.worker_id
    )
""")  # Requests to workers that died, say.

REQUEST_CANCELLATIONS = Statement("""
    with requested as (
      insert into {schema}.trio_graphile_cancellations as cancellations
        (job_id, worker_id, outcome, reason)
      select jobs.id, jobs.locked_by, $2::text, $3::text
      from {schema}._private_jobs as jobs
      where jobs.id = any($1::bigint[])
      on conflict (job_id) do update
      set worker_id = excluded.worker_id,
        outcome = excluded.outcome,
        reason = excluded.reason,
        requested_at = excluded.requested_at
      returning cancellations.worker_id
    )
    select pg_notify($4::text || workers.worker_id, '')
    from (
      select distinct requested.worker_id
      from requested
    ) as workers
""")  # $1 job ids, $2 outcome, $3 reason, $4 what the workers' channels begin with


async def cancel_jobs(
    connection: Connection, ids: Sequence[int], outcome: CancelOutcome, reason: str
) -> CancelledJobs:
    """Ask the workers of running jobs to interrupt them, and fail waiting jobs if that is the outcome.

    Call it inside a transaction.
    """
    holders = [(row["id"], row["locked_by"]) for row in await connection.fetch(LOCK_HOLDERS, ids)]
    requested = within_reach(holders)
    if requested:
        await connection.execute(FORGET_OUTDATED)
        await connection.fetch(REQUEST_CANCELLATIONS, requested, outcome, reason, CANCEL_CHANNEL)
    rest = [id_ for id_ in dict.fromkeys(ids) if id_ not in requested]
    if outcome == "return" or not rest:
        return CancelledJobs(requested_ids=tuple(requested), skipped_ids=tuple(rest))
    failed = await changes.permanently_fail_jobs(connection, rest, reason)
    return CancelledJobs(requested_ids=tuple(requested), jobs=failed.jobs, skipped_ids=failed.skipped_ids)


GET_CANCEL_REQUESTS = Statement("""
    select cancellations.job_id, cancellations.outcome, cancellations.reason,
      cancellations.requested_at::text as requested_at
    from {schema}.trio_graphile_cancellations as cancellations
    where cancellations.worker_id = $1::text
    order by cancellations.job_id
""")  # $1 worker id


async def get_cancel_requests(executor: Executor, worker_id: str) -> list[CancelRequest]:
    """Return the jobs that a worker is asked to interrupt."""
    return [CancelRequest(**row) for row in await executor.fetch(GET_CANCEL_REQUESTS, worker_id)]


FORGET_CANCEL_REQUESTS = Statement("""
    delete from {schema}.trio_graphile_cancellations as cancellations
    using unnest($2::bigint[], $3::text[]) as heard(job_id, requested_at)
    where cancellations.worker_id = $1::text
      and cancellations.job_id = heard.job_id
      and cancellations.requested_at = heard.requested_at::timestamptz
""")  # $1 worker id, $2 job ids, $3 when each was requested: a second request is another one


async def forget_cancel_requests(
    executor: Executor, worker_id: str, requests: Sequence[CancelRequest]
) -> None:
    """Delete requests that the worker has read."""
    await executor.execute(
        FORGET_CANCEL_REQUESTS,
        worker_id,
        [request.job_id for request in requests],
        [request.requested_at for request in requests],
    )
