"""The benchmarks as Procrastinate does them. Each prints a line of JSON, as those in `../../ours.py` do."""

from __future__ import annotations

import asyncio  # noqa: TID251 (it knows nothing else)
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import uvloop  # type: ignore[import-not-found]
from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found]

_FILL_BATCH = 10_000


def app_and_task(options: dict[str, Any], called: Callable[[], None] = lambda: None) -> tuple[Any, Any]:
    sessions = options["sessions"]
    connector = PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=sessions, max_size=sessions)
    app = App(connector=connector)

    async def nothing(n: int) -> None:
        called()

    return app, app.task(name="nothing")(nothing)


async def run(app: Any, options: dict[str, Any], **settings: object) -> None:
    await app.run_worker_async(
        concurrency=options["concurrency"],
        delete_jobs="always",  # as we do
        install_signal_handlers=False,
        **settings,
    )


async def migrate(options: dict[str, Any]) -> None:
    app, _ = app_and_task(options)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def fill(options: dict[str, Any]) -> None:
    app, task = app_and_task(options)
    async with app.open_async():
        for begin in range(0, options["jobs"], _FILL_BATCH):
            end = min(begin + _FILL_BATCH, options["jobs"])
            await task.batch_defer_async(*({"n": n} for n in range(begin, end)))


async def drain(options: dict[str, Any]) -> dict[str, Any]:
    handled = 0

    def count() -> None:
        nonlocal handled
        handled += 1

    app, _ = app_and_task(options, count)
    cpu_before, before = time.process_time(), time.perf_counter()
    async with app.open_async():
        await run(app, options, wait=False, listen_notify=False)
    return {
        "seconds": time.perf_counter() - before,
        "handled": handled,
        "client_cpu": time.process_time() - cpu_before,
    }


async def latency(options: dict[str, Any]) -> dict[str, Any]:
    started: asyncio.Queue[float] = asyncio.Queue()
    app, task = app_and_task(options, lambda: started.put_nowait(time.perf_counter()))
    latencies = []
    async with app.open_async():
        running = asyncio.create_task(run(app, options))
        await asyncio.sleep(1)  # it does not say when it listens
        for n in range(options["adds"]):
            await asyncio.sleep(options["pause"])
            before = time.perf_counter()
            await task.defer_async(n=n)
            latencies.append(await started.get() - before)
        await _stop(running)
    return {"latencies": latencies}


async def add(options: dict[str, Any]) -> dict[str, Any]:
    app, task = app_and_task(options)
    jobs = [{"n": n} for n in range(options["jobs"])]
    async with app.open_async():
        cpu_before, before = time.process_time(), time.perf_counter()
        await task.batch_defer_async(*jobs)
        bulk_seconds = time.perf_counter() - before
        client_cpu = time.process_time() - cpu_before
        single_seconds = []
        for n in range(options["singles"]):
            before = time.perf_counter()
            await task.defer_async(n=n)
            single_seconds.append(time.perf_counter() - before)
    return {"bulk_seconds": bulk_seconds, "client_cpu": client_cpu, "single_seconds": single_seconds}


async def serve(options: dict[str, Any]) -> dict[str, Any]:
    """Say that we are ready, begin when told to, run until standard input ends."""
    handled = 0

    def count() -> None:
        nonlocal handled
        handled += 1

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    app, _ = app_and_task(options, count)
    cpu_before, before = time.process_time(), time.perf_counter()
    async with app.open_async():
        running = asyncio.create_task(run(app, options))
        await asyncio.to_thread(sys.stdin.read)
        await _stop(running)
    return {
        "seconds": time.perf_counter() - before,
        "handled": handled,
        "client_cpu": time.process_time() - cpu_before,
    }


async def _stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


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
    logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it warns of an App in the main program
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(BENCHMARKS[name](options))
    if result is not None:
        print(json.dumps(result))
