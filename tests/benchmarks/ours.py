"""The benchmarks as we do them. Each prints one line of JSON; `node/peer.mjs` is its counterpart."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import attrs
import trio

from trio_graphile import Client, LocalQueueOptions, TaskRegistry, Worker, WorkerOptions, open_database


@attrs.frozen(kw_only=True)
class Nothing:
    n: int


def worker_options(options: dict[str, Any]) -> WorkerOptions:
    return WorkerOptions(
        concurrency=options["concurrency"],
        local_queue=LocalQueueOptions(size=options["local_queue_size"]),
    )


async def migrate(_options: dict[str, Any]) -> None:
    async with open_database() as database:
        await Client(database).migrate()


async def drain(options: dict[str, Any]) -> dict[str, Any]:
    left = options["jobs"]
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            worker.stop()

    async with open_database() as database:
        worker = Worker(database, tasks, worker_options(options))
        cpu_before, before = time.process_time(), time.perf_counter()
        await worker.run()
        return {
            "seconds": time.perf_counter() - before,
            "client_cpu": time.process_time() - cpu_before,
        }


async def latency(options: dict[str, Any]) -> dict[str, Any]:
    tasks = TaskRegistry()
    started: list[float] = []
    start = trio.Event()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None:
        started.append(time.perf_counter())
        start.set()

    seconds = []
    async with open_database() as database, trio.open_nursery() as nursery:
        worker = Worker(database, tasks, worker_options(options))
        await nursery.start(worker.run)
        client = Client(database)
        for n in range(options["adds"]):
            await trio.sleep(options["pause"])
            start = trio.Event()
            before = time.perf_counter()
            await client.add_job(nothing, Nothing(n=n))
            await start.wait()
            seconds.append(started[-1] - before)
        worker.stop()
    return {"seconds": seconds}


async def add(options: dict[str, Any]) -> dict[str, Any]:
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None: ...

    async with open_database() as database:
        client = Client(database)
        jobs = [(nothing, Nothing(n=n)) for n in range(options["jobs"])]
        before = time.perf_counter()
        await client.add_jobs(jobs)
        bulk_seconds = time.perf_counter() - before
        single_seconds = []
        for n in range(options["singles"]):
            before = time.perf_counter()
            await client.add_job(nothing, Nothing(n=n))
            single_seconds.append(time.perf_counter() - before)
    return {"bulk_seconds": bulk_seconds, "single_seconds": single_seconds}


BENCHMARKS = {"migrate": migrate, "drain": drain, "latency": latency, "add": add}

if __name__ == "__main__":
    name, options = map(json.loads, sys.argv[1:3])
    result = trio.run(BENCHMARKS[name], options)
    if result is not None:
        print(json.dumps(result))
