"""A worker that does what is due and ends: for a program that something else starts now and then.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio
from example_database import database_url

from trio_graphile import Client, JobContext, JobSpec, TaskRegistry, Worker, WorkerOptions, open_database

tasks = TaskRegistry()


@tasks.task("tidy_shelf")
async def tidy_shelf(number: int, context: JobContext) -> None:
    await trio.sleep(0.01)
    print(f"  shelf {number} is tidy")
    if number == 3:  # what a handler adds is due at once, so the same pass does it
        await context.client.add_job(dust_floor, None)


@tasks.task("dust_floor")
async def dust_floor() -> None:
    await trio.sleep(0.01)
    print("  the floor is dusted, too")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        await client.add_jobs([(tidy_shelf, number) for number in (1, 2, 3)])
        tomorrow = JobSpec(run_at=datetime.now(UTC) + timedelta(days=1), job_key="the shelf of tomorrow")
        job = await client.add_job(tidy_shelf, 4, tomorrow)

        print("one pass over the queue:")
        report = await Worker(database, tasks, WorkerOptions(concurrency=2)).run_once()
        print(f"  {report.completed} completed, {report.failed} failed")
        print(f"what is not due waits for a later pass: job {job.id}, until {job.run_at:%A, %H:%M} UTC")

        print("the next pass finds nothing, and ends at once:")
        report = await Worker(database, tasks).run_once()
        print(f"  {report.completed} completed")


if __name__ == "__main__":
    trio.run(main)
