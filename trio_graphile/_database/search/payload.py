"""Reads one payload of any size."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import BIGINT

READ_PAYLOAD = Statement("""
    select jobs.payload::text
    from {schema}._private_jobs as jobs
    where jobs.id = $1::bigint
""")  # $1 job id


async def stored_payload(executor: Executor, job_id: int) -> str | None:
    """Return the payload of a job as JSON, exactly as stored; None if there is no such job."""
    if job_id not in BIGINT:
        return None
    payload: str | None = await executor.fetch_value(READ_PAYLOAD, job_id)
    return payload
