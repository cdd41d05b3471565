"""A worker dies in the middle of a job, without a word; another one notices, and runs the job.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import os
import signal
import sys

import trio
from example_database import database_url

from trio_graphile import (
    Client,
    JobContext,
    PresenceOptions,
    RecoveryOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.hooks import Hooks, JobCompleted, JobToRecover, WorkersRecovered

tasks = TaskRegistry()
hooks = Hooks()
completed = trio.Event()
OPTIONS = WorkerOptions(
    recovery=RecoveryOptions(
        recovery_delay=0,
        # Much shorter than in production, where a server may be busy for longer than a second.
        presence=PresenceOptions(probe_interval=0.2, probe_timeout=0.2, fence_after=0.5, grace=0.7),
    )
)


@tasks.task("carry_glass")
async def carry_glass(context: JobContext) -> None:
    await trio.sleep(0.01)
    if context.state == "clumsy":
        print("  the first worker is killed while it carries the glass", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)  # no handler, no `finally`, no farewell to the database
    print(f"  the second carries it; attempt {context.attempt}, for the first was not the job's fault")


@hooks.recover_job
def ask_about_it(question: JobToRecover) -> None:
    """Could say `Reschedule`, `FailWithBackoff` or `Skip`; None gives the job back as usual."""
    print(f"  may job {question.job.id} of a dead worker run again? yes")


@hooks.on(JobCompleted)
def say_completed(_: JobCompleted) -> None:
    completed.set()


@hooks.on(WorkersRecovered)
def say_recovered(event: WorkersRecovered) -> None:
    print(f"  workers found dead: {len(event.dead_worker_ids)}, jobs given back: {event.jobs}")


async def run_clumsy_worker(url: str) -> None:
    async with open_database(url) as database:
        await Worker(database, tasks, OPTIONS, state="clumsy").run()


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        await client.add_job(carry_glass, None)

        print("a worker in a process of its own:")
        await trio.run_process([sys.executable, __file__, url], check=False)
        print(f"  its job is still locked: {(await client.backlog()).locked}")

        print("another worker:")
        worker = Worker(database, tasks, OPTIONS, state="careful", plugins=[hooks])
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            with trio.fail_after(60):
                await completed.wait()
            worker.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        trio.run(run_clumsy_worker, sys.argv[1])
    else:
        trio.run(main)
