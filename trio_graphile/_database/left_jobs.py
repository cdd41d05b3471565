"""Which jobs are left of those that a worker has completed, or may have."""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement

FIND_LEFT_JOBS = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.id = any($1::bigint[])
""")


async def find_left_jobs(executor: Executor, ids: Sequence[int]) -> set[int]:
    """Return the ids of those that are there, whoever has them."""
    return {row["id"] for row in await executor.fetch(FIND_LEFT_JOBS, list(ids))}
