"""Plain functions as handlers: each runs in a thread, and the event loop goes on meanwhile.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import threading
import time

import trio
from example_database import database_url

from trio_graphile import (
    Client,
    JobContext,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)

tasks = TaskRegistry()


@tasks.task("resize")
def resize(picture: str) -> None:
    time.sleep(0.2)  # a library that blocks
    say(f"{picture}, in the thread {threading.current_thread().name!r}")


@tasks.task("count", timeout=0.3, max_attempts=1)
def count(name: str) -> None:
    sheep = 0
    try:
        while True:
            trio.from_thread.check_cancelled()  # raises once the time is up
            time.sleep(0.05)
            sheep += 1
    finally:
        say(f"{name} was told to stop after {sheep} sheep")


@tasks.task("greet")
def greet(name: str, context: JobContext) -> None:
    # Async functions are called in the event loop, from where the worker is; here it adds a job.
    job = context.run(context.client.add_job, resize, f"portrait of {name}.png")
    say(f"{name} is greeted, and job {job.id} is added")


@tasks.task("stare")
def stare(seconds: float, context: JobContext) -> None:
    trio.from_thread.run_sync(context.state.set)
    time.sleep(seconds)  # asks nobody whether to stop


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()

        print("two at once, while the event loop does something else:")
        await client.add_jobs([(resize, f"{n}.png") for n in range(4)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            await Worker(database, tasks, WorkerOptions(concurrency=2)).run_once()
            nursery.cancel_scope.cancel()

        print("async code from a thread, and a timeout that the thread asks for:")
        await client.add_job(greet, "ada")
        await client.add_job(count, "grace")
        await Worker(database, tasks).run_once()

        print("a thread that does not ask cannot be ended. The worker ends without it, and says so:")
        options = WorkerOptions(shutdown=ShutdownOptions(grace_period=0.1, flush_timeout=1.0))
        worker = Worker(database, tasks, options, state=trio.Event())
        await client.add_job(stare, 1.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_once_it_stares, worker)
            report = await worker.run()
        for thread in report.abandoned:
            print(f"  job {thread.job_id} ({thread.task_identifier}) went back to the queue, but goes on")
        print(f"  that took {report.seconds:.1f} s")


def say(text: str) -> None:
    print(f"  {text}\n", end="", flush=True)  # at one go: threads would come between text and line feed


async def tick() -> None:
    while True:
        say("tick")
        await trio.sleep(0.1)


async def stop_once_it_stares(worker: Worker) -> None:
    await worker.state.wait()
    worker.stop()


if __name__ == "__main__":
    trio.run(main)
