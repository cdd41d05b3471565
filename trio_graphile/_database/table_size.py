"""How large the table of jobs is, asked of the server without reading it."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement

SIZE_JOBS = Statement("""
    select jobs_class.relpages * current_setting('block_size')::bigint
    from pg_catalog.pg_class as jobs_class
    where jobs_class.oid = to_regclass($trio_graphile${schema}._private_jobs$trio_graphile$)::oid
""")  # to ask for the size of today would wait for whoever has locked the table


async def size_jobs(executor: Executor) -> int:
    """Return how many bytes there are to read, dead rows included, as of the last vacuum; 0 before that."""
    return int(await executor.fetch_value(SIZE_JOBS))
