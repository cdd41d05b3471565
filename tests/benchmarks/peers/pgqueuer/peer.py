"""The benchmarks as PgQueuer does them. Each prints one line of JSON; `../../ours.py` is its counterpart."""

from __future__ import annotations

import asyncio  # noqa: TID251 (it knows nothing else)
import json
import os
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import uvloop  # type: ignore[import-not-found]
from pgqueuer import PgQueuer, Queries  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]

_FILL_BATCH = 10_000


def sessions(options: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
    pool: AbstractAsyncContextManager[Any] = asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=options["sessions"], max_size=options["sessions"]
    )
    return pool


async def enqueue(queries: Any, begin: int, end: int) -> None:
    payloads = [json.dumps({"n": n}).encode() for n in range(begin, end)]
    await queries.enqueue(["nothing"] * len(payloads), payloads, [0] * len(payloads))


async def run(queuer: Any, options: dict[str, Any], mode: Any) -> None:
    await queuer.run(batch_size=options["batch"], mode=mode, max_concurrent_tasks=options["tasks"])


async def migrate(options: dict[str, Any]) -> None:
    async with sessions(options) as pool:
        await Queries.from_asyncpg_pool(pool).install()


async def fill(options: dict[str, Any]) -> None:
    async with sessions(options) as pool:
        for begin in range(0, options["jobs"], _FILL_BATCH):
            queries = Queries.from_asyncpg_pool(pool)
            await enqueue(queries, begin, min(begin + _FILL_BATCH, options["jobs"]))


async def drain(options: dict[str, Any]) -> dict[str, Any]:
    handled = 0

    async def nothing(_job: object) -> None:
        nonlocal handled
        handled += 1

    cpu_before, before = time.process_time(), time.perf_counter()
    async with sessions(options) as pool:
        queuer = PgQueuer.from_asyncpg_pool(pool)
        queuer.entrypoint("nothing")(nothing)
        await run(queuer, options, QueueExecutionMode.drain)
    return {
        "seconds": time.perf_counter() - before,
        "handled": handled,
        "client_cpu": time.process_time() - cpu_before,
    }


async def latency(options: dict[str, Any]) -> dict[str, Any]:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def nothing(_job: object) -> None:
        started.put_nowait(time.perf_counter())

    latencies = []
    async with sessions(options) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        queuer = PgQueuer.from_asyncpg_pool(pool)
        queuer.entrypoint("nothing")(nothing)
        running = asyncio.create_task(run(queuer, options, QueueExecutionMode.continuous))
        await asyncio.sleep(1)  # it does not say when it listens
        for n in range(options["adds"]):
            await asyncio.sleep(options["pause"])
            before = time.perf_counter()
            await queries.enqueue("nothing", json.dumps({"n": n}).encode())
            latencies.append(await started.get() - before)
        queuer.shutdown.set()
        await running
    return {"latencies": latencies}


async def add(options: dict[str, Any]) -> dict[str, Any]:
    async with sessions(options) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        cpu_before, before = time.process_time(), time.perf_counter()
        await enqueue(queries, 0, options["jobs"])
        bulk_seconds = time.perf_counter() - before
        client_cpu = time.process_time() - cpu_before
        single_seconds = []
        for n in range(options["singles"]):
            before = time.perf_counter()
            await queries.enqueue("nothing", json.dumps({"n": n}).encode())
            single_seconds.append(time.perf_counter() - before)
    return {"bulk_seconds": bulk_seconds, "client_cpu": client_cpu, "single_seconds": single_seconds}


async def serve(options: dict[str, Any]) -> dict[str, Any]:
    """Say that we are ready, begin when told to, run until standard input ends."""
    handled = 0

    async def nothing(_job: object) -> None:
        nonlocal handled
        handled += 1

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu_before, before = time.process_time(), time.perf_counter()
    async with sessions(options) as pool:
        queuer = PgQueuer.from_asyncpg_pool(pool)
        queuer.entrypoint("nothing")(nothing)
        running = asyncio.create_task(run(queuer, options, QueueExecutionMode.continuous))
        await asyncio.to_thread(sys.stdin.read)
        queuer.shutdown.set()
        await running
    return {
        "seconds": time.perf_counter() - before,
        "handled": handled,
        "client_cpu": time.process_time() - cpu_before,
    }


BENCHMARKS = {
    "migrate": migrate,
    "fill": fill,
    "drain": drain,
    "latency": latency,
    "add": add,
    "serve": serve,
}

if __name__ == "__main__":
    name, options = map(json.loads, sys.argv[1:3])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(BENCHMARKS[name](options))
    if result is not None:
        print(json.dumps(result))
