"""What the server alone allows: our own statements on bare sessions, no handlers, nobody in between."""

from __future__ import annotations

import asyncio  # noqa: TID251 (no bridge: that is the point)
import json
import os
import sys
import time
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import attrs
import trio

from tests.benchmarks.ours import migrate
from tests.benchmarks.tables import TASK
from trio_graphile._database.claiming.claims import get_jobs
from trio_graphile._database.connection import Row
from trio_graphile._database.database import _STEADY_PLANS
from trio_graphile._database.held_rows import complete_jobs
from trio_graphile._database.statement import Statement

_SCHEMA = '"graphile_worker"'


@attrs.frozen
class BareSession:
    """An `Executor` that hands statements to asyncpg, as they are."""

    raw: Any

    async def fetch(self, sql: str | Statement, *arguments: object) -> list[Row]:
        rows: list[Row] = await self.raw.fetch(_text(sql), *arguments)
        return rows

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None:
        row: Row | None = await self.raw.fetchrow(_text(sql), *arguments)
        return row

    async def fetch_value(self, sql: str | Statement, *arguments: object) -> Any:
        return await self.raw.fetchval(_text(sql), *arguments)

    async def execute(self, sql: str | Statement, *arguments: object) -> str:
        tag: str = await self.raw.execute(_text(sql), *arguments)
        return tag


def _text(sql: str | Statement) -> str:
    return sql if isinstance(sql, str) else sql.for_schema(_SCHEMA)


async def drain(options: dict[str, Any]) -> dict[str, Any]:
    """Claim and complete batches until nothing is left, on several sessions at once."""
    sessions: int = options["sessions"]
    settings = {**_STEADY_PLANS, "jit": "off"}  # as ours have
    cpu_before, before = time.process_time(), time.perf_counter()
    async with (
        asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=sessions, max_size=sessions, server_settings=settings
        ) as pool,
        asyncio.TaskGroup() as group,
    ):
        loops = [
            group.create_task(_claim_and_complete(pool, f"limit {number}", options["batch"]))
            for number in range(sessions)
        ]
    return {
        "seconds": time.perf_counter() - before,
        "handled": sum(loop.result() for loop in loops),
        "client_cpu": time.process_time() - cpu_before,
    }


async def _claim_and_complete(pool: Any, worker_id: str, batch: int) -> int:
    completed = 0
    async with pool.acquire() as raw:
        session = BareSession(raw)
        while jobs := await get_jobs(session, worker_id, [TASK], batch):
            completed += len(await complete_jobs(session, worker_id, jobs))
    return completed


if __name__ == "__main__":
    name, options = map(json.loads, sys.argv[1:3])
    if name == "migrate":
        trio.run(migrate, options)
    else:
        print(json.dumps(asyncio.run(drain(options))))
