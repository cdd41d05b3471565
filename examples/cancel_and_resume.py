"""A long job that is interrupted goes on where it was; one that nobody wants any more is cancelled.

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
class Import:
    rows: int
    done: int = 0  # where to go on; rows of the queue that were written without it begin at the beginning


@tasks.task("import_rows")
async def import_rows(wanted: Import, context: JobContext) -> None:
    print(f"  job {context.job.id}: begins at row {wanted.done}")
    for done in range(wanted.done, wanted.rows):
        await trio.sleep(0.01)  # so long does a row take
        context.checkpoint(attrs.evolve(wanted, done=done + 1))
        context.report(f"{done + 1} of {wanted.rows} rows")
    print(f"  job {context.job.id}: has imported {wanted.rows} rows")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        wanted = await client.add_job(import_rows, Import(rows=50))
        unwanted = await client.add_job(import_rows, Import(rows=1_000_000))

        print("a worker that is stopped half-way:")
        options = WorkerOptions(concurrency=2, shutdown=ShutdownOptions(grace_period=0))
        worker = Worker(database, tasks, options)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            await wait_for_progress(worker, jobs=2)
            await trio.sleep(0.2)
            for running in worker.statistics().running:
                print(f"  job {running.job.id}: {running.progress}")

            answer = await client.cancel_jobs([unwanted.id], reason="nobody wants a million rows")
            print(f"  to be cancelled: {answer.requested_ids}")
            await wait_for_progress(worker, jobs=1)
            worker.stop()

        print("what stands in the table:")
        for job in await database.fetch(
            f"select * from {database.schema}._private_jobs where id = any($1::bigint[]) order by id",
            [wanted.id, unwanted.id],
        ):
            print(f"  job {job['id']}: {job['payload']}, attempts {job['attempts']}, {job['last_error']}")

        print("the next worker:")
        report = await Worker(database, tasks).run_once()
        print(f"  {report.completed} completed")


async def wait_for_progress(worker: Worker, *, jobs: int) -> None:
    """Wait until so many jobs run, and each has reported something."""
    while True:
        running = worker.statistics().running
        if len(running) == jobs and all(job.progress is not None for job in running):
            return
        await trio.sleep(0.01)


if __name__ == "__main__":
    trio.run(main)
