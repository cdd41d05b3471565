"""What the server alone allows: our own statements on bare sessions, no handlers, nobody in between."""

from __future__ import annotations

import asyncio  # noqa: TID251 (no bridge: that is the point)
import json
import os
import sys
import time
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import trio

from tests.benchmarks.ours import migrate
from tests.benchmarks.tables import TASK
from trio_graphile._database.claims import GET_JOBS
from trio_graphile._database.database import _STEADY_PLANS
from trio_graphile._database.queue import COMPLETE_JOBS

_SCHEMA = '"graphile_worker"'


async def drain(options: dict[str, Any]) -> dict[str, Any]:
    """Claim and complete batches until nothing is left, on several sessions at once."""
    cpu_before, before = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as sessions:
        loops = [
            sessions.create_task(_claim_and_complete(f"limit {number}", options["batch"]))
            for number in range(options["sessions"])
        ]
    return {
        "seconds": time.perf_counter() - before,
        "handled": sum(loop.result() for loop in loops),
        "client_cpu": time.process_time() - cpu_before,
    }


async def _claim_and_complete(worker_id: str, batch: int) -> int:
    completed = 0
    connection = await asyncpg.connect(
        os.environ["DATABASE_URL"], server_settings={**_STEADY_PLANS, "jit": "off"}
    )
    try:
        claim = await connection.prepare(GET_JOBS.for_schema(_SCHEMA))
        complete = await connection.prepare(COMPLETE_JOBS.for_schema(_SCHEMA))
        while jobs := await claim.fetch(worker_id, [TASK], batch, None):
            ids, attempts = [job["id"] for job in jobs], [job["attempts"] for job in jobs]
            completed += len(await complete.fetchval(worker_id, ids, attempts, []))
    finally:
        await connection.close()
    return completed


if __name__ == "__main__":
    name, options = map(json.loads, sys.argv[1:3])
    if name == "migrate":
        trio.run(migrate, options)
    else:
        print(json.dumps(asyncio.run(drain(options))))
