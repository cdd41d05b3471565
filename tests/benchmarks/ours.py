"""The benchmarks as we do them. Each prints one line of JSON; counterparts are in the folders of `peers`."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import trio

from trio_graphile import (
    Client,
    JobContext,
    JobSpec,
    LocalQueueOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)


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
    """Run so many jobs, then stop."""
    handled, first_at = 0, 0.0
    jobs = options["jobs"]
    sample_at = max(1, jobs // options.get("rss_samples", 1))
    rss = []
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None:
        nonlocal handled, first_at
        handled += 1
        if handled == 1:
            first_at = time.perf_counter()
        if handled % sample_at == 0:
            rss.append(resident_bytes())
        if handled == jobs:
            worker.stop()

    async with open_database() as database:
        worker = Worker(database, tasks, worker_options(options))
        cpu_before, before = time.process_time(), time.perf_counter()
        report = await worker.run()
        ended = time.perf_counter()
        return {
            "seconds": ended - before,
            "running_seconds": ended - first_at,
            "handled": report.completed,
            "client_cpu": time.process_time() - cpu_before,
            "rss": rss,
        }


async def watch_queues(options: dict[str, Any]) -> dict[str, Any]:
    """Drain, and look whether the jobs of a queue run one after the other, in their order."""
    left, overlaps, disorders = options["jobs"], 0, 0
    running: set[str | None] = set()
    latest: dict[str | None, int] = {}
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(payload: Nothing, context: JobContext) -> None:
        nonlocal left, overlaps, disorders
        queue = context.job.queue_name
        overlaps += queue in running
        disorders += payload.n < latest.get(queue, 0)
        running.add(queue)
        latest[queue] = payload.n
        await trio.lowlevel.checkpoint()
        running.remove(queue)
        left -= 1
        if left == 0:
            worker.stop()

    async with open_database() as database:
        worker = Worker(database, tasks, worker_options(options))
        await worker.run()
    return {"overlaps": overlaps, "disorders": disorders}


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
    return {"latencies": seconds}


async def add(options: dict[str, Any]) -> dict[str, Any]:
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None: ...

    async with open_database() as database:
        client = Client(database)
        jobs = [(nothing, Nothing(n=n)) for n in range(options["jobs"])]
        cpu_before, before = time.process_time(), time.perf_counter()
        await client.add_jobs(jobs)
        bulk_seconds = time.perf_counter() - before
        client_cpu = time.process_time() - cpu_before
        single_seconds = []
        for n in range(options["singles"]):
            before = time.perf_counter()
            await client.add_job(nothing, Nothing(n=n))
            single_seconds.append(time.perf_counter() - before)
    return {"bulk_seconds": bulk_seconds, "client_cpu": client_cpu, "single_seconds": single_seconds}


async def calls(options: dict[str, Any]) -> dict[str, Any]:
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None: ...

    def key_of(n: int) -> str | None:
        return f"key {n}" if options["keyed"] else None

    async with open_database() as database:
        client, size = Client(database), options["size"]
        await client.add_job(nothing, Nothing(n=0))
        cpu_before, before = time.process_time(), time.perf_counter()
        for start in range(0, options["jobs"], size):
            await client.add_jobs(
                [(nothing, Nothing(n=n), JobSpec(job_key=key_of(n))) for n in range(start, start + size)]
            )
        bulk_seconds = time.perf_counter() - before
        return {"bulk_seconds": bulk_seconds, "client_cpu": time.process_time() - cpu_before}


async def serve(options: dict[str, Any]) -> dict[str, Any]:
    """Say that we are ready, begin when told to, run until standard input ends; add as many as were run."""
    refill = options.get("refill", 0)
    per_second: Counter[int] = Counter()
    handled = 0
    refills, to_refill = trio.open_memory_channel[int](1_000_000)
    tasks = TaskRegistry()

    @tasks.task("nothing")
    async def nothing(_payload: Nothing) -> None:
        nonlocal handled
        handled += 1
        per_second[int(time.perf_counter() - began)] += 1
        if refill and handled % refill == 0:
            refills.send_nowait(refill)

    async def add_as_many() -> None:
        client = Client(database)
        async for count in to_refill:
            await client.add_jobs([(nothing, Nothing(n=n)) for n in range(count)])

    async with open_database() as database:
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        cpu_before, began = time.process_time(), time.perf_counter()
        worker = Worker(database, tasks, worker_options(options))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add_as_many)
            await nursery.start(worker.run)
            await trio.to_thread.run_sync(sys.stdin.read)
            worker.stop()
            await worker.wait_ended()
            refills.close()
    return {
        "seconds": time.perf_counter() - began,
        "handled": handled,
        "client_cpu": time.process_time() - cpu_before,
        "per_second": [per_second[second] for second in range(max(per_second, default=-1) + 1)],
    }


def resident_bytes() -> int:
    """Return what this process has in memory, 0 where nobody says."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


BENCHMARKS = {
    "migrate": migrate,
    "drain": drain,
    "watch_queues": watch_queues,
    "latency": latency,
    "add": add,
    "calls": calls,
    "serve": serve,
}

if __name__ == "__main__":
    name, options = map(json.loads, sys.argv[1:3])
    result = trio.run(BENCHMARKS[name], options)
    if result is not None:
        print(json.dumps(result))
