"""The local queue: jobs that a worker claims ahead of its slots, many by one statement.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import trio
from example_database import database_url

from trio_graphile import (
    Client,
    JobContext,
    LocalQueueOptions,
    RefetchDelayOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.hooks import (
    Event,
    Hooks,
    JobsClaimed,
    JobsReturned,
    LocalQueueModeChanged,
    RefetchDelayAborted,
    RefetchDelayExpired,
    RefetchDelayStarted,
)

tasks = TaskRegistry()


@tasks.task("count_item")
async def count_item(context: JobContext) -> None:
    await trio.sleep(0.01)
    context.state.release()


hooks = Hooks()


@hooks.on(Event)
def tell(event: Event) -> None:
    match event:
        case LocalQueueModeChanged(old=old, new=new):
            print(f"  from {old.value} to {new.value}")
        case JobsClaimed(count=count, limit=limit) if count:
            print(f"  claimed: {count} of up to {limit}")
        case RefetchDelayStarted(duration=duration, abort_threshold=jobs):
            print(f"  that was little: the next claim waits {duration:.2f} s, or for {jobs:g} new jobs")
        case RefetchDelayAborted(count=count):
            print(f"  {count} new jobs, so it does not wait any longer")
        case RefetchDelayExpired():
            print("  it has waited long enough")
        case JobsReturned(count=count):
            print(f"  given back, for other workers: {count}")
        case _:
            pass


async def main() -> None:
    options = WorkerOptions(
        concurrency=2,
        local_queue=LocalQueueOptions(
            size=10,  # held jobs wait for a slot of this worker: a slow one should hold few
            ttl=60,  # and give back after a while what it did not come to
            refetch_delay=RefetchDelayOptions(duration=0.2, threshold=3, max_abort_threshold=15),
        ),
    )
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        done = trio.Semaphore(0)
        worker = Worker(database, tasks, options, state=done, plugins=[hooks])
        async with trio.open_nursery() as nursery:
            print("many jobs, few claims:")
            await client.add_jobs([(count_item, None)] * 40)
            await nursery.start(worker.run)
            await wait_for(done, 40)

            print("a trickle of jobs:")
            for _ in range(3):
                await client.add_job(count_item, None)
                await trio.sleep(0.05)
            await wait_for(done, 3)

            print("more jobs than there is time for:")
            await client.add_jobs([(count_item, None)] * 40)
            await wait_for(done, 10)
            worker.stop()
        left = await client.backlog()
        print(f"in the table: {left.ready} jobs for other workers, and {left.locked} that are still locked")
        await Worker(database, tasks, WorkerOptions(), state=done).run_once()


async def wait_for(done: trio.Semaphore, count: int) -> None:
    for _ in range(count):
        await done.acquire()


if __name__ == "__main__":
    trio.run(main)
