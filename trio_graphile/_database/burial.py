"""Giving back what a worker held that is known to be dead: by whoever saw its process end."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement

RECOVER_WORKER = Statement("""
    select {schema}.recover_dead_worker_jobs(array[$1::text]) as recovered,
      {schema}.delete_stale_workers(array[$1::text])
""")  # $1 worker id. The functions of Rust's sweepers, which ours install too; nothing here looks at a clock.


async def recover_worker(executor: Executor, worker_id: str) -> int:
    """Give back all jobs and queues of a worker, each job with its attempt; return how many jobs."""
    return int(await executor.fetch_value(RECOVER_WORKER, worker_id))
