"""Some jobs, a worker that is stopped too early, and another that does the rest.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import attrs
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


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"  # a default is how rows written before this field existed stay readable


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome) -> None:
    await trio.sleep(0.02)  # a mail server would take its time, too
    print(f"  a welcome to {payload.to}, in {payload.locale}")


@tasks.task("bake")  # a payload may be any type that JSON can hold
async def bake(cake: str, context: JobContext) -> None:
    print(f"  {cake}: into the oven, attempt {context.attempt}")
    context.state.set()  # whatever the worker was made with: here an event
    await trio.sleep(1)
    print(f"  {cake}: done")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()

        await client.add_jobs([(send_welcome, Welcome(to=f"{who}@example.org")) for who in ("ada", "grace")])
        # This job appears when the transaction commits, and never if it rolls back.
        async with database.transaction() as connection:
            await client.using(connection).add_job(
                send_welcome, Welcome(to="edsger@example.org", locale="nl")
            )

        print("a worker, as one child of a nursery:")
        oven_is_on = trio.Event()
        options = WorkerOptions(concurrency=4, shutdown=ShutdownOptions(grace_period=0.1))
        worker = Worker(database, tasks, options, state=oven_is_on)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)  # returns as soon as it listens
            await client.add_job(bake, "apple pie")
            await oven_is_on.wait()
            worker.stop()  # too early: what still runs after the grace period goes back to the queue
        print("  stopped: nothing is locked, nothing is lost")

        print("another worker, which ends as soon as nothing is due:")
        report = await Worker(database, tasks, state=trio.Event()).run_once()
        print(f"  {report.completed} completed, {report.failed} failed, {report.returned} given back")


if __name__ == "__main__":
    trio.run(main)
