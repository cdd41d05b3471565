"""The context of a handler: its job, a client that adds the next step, a logger, and word of a stop.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, JobContext, JobSpec, TaskRegistry, Worker, current_job, open_database

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Transfer:
    number: str
    looked: int = 0


@tasks.task("send_transfer")
async def send_transfer(transfer: Transfer, context: JobContext) -> None:
    print(f"  job {context.job.id}, attempt {context.attempt}: transfer {transfer.number} is on its way")
    soon = JobSpec(run_at=datetime.now(UTC) + timedelta(seconds=0.3), job_key=f"check {transfer.number}")
    await context.client.add_job(check_transfer, transfer, soon)


@tasks.task("check_transfer")
def check_transfer(transfer: Transfer, context: JobContext) -> None:  # in a thread
    looked = transfer.looked + 1
    context.logger.info("transfer %s: looked %d times", transfer.number, looked)  # it knows the job
    if looked < 3:
        again = attrs.evolve(transfer, looked=looked)
        context.run(context.client.add_job, check_transfer, again)  # a thread calls what is async by `run`
    else:
        context.run(context.client.add_job, wait_for_answer, transfer.number)


@tasks.task("wait_for_answer")
async def wait_for_answer(number: str, context: JobContext) -> None:
    print(f"  is there an answer to {number}? One that takes its time hears of a stop:")
    context.state.set()
    await context.stopping.wait()  # usually beside the work: "finish this page, then end"
    print(f"  {describe()} ends early, while {context.worker_id[:14]}... stops")


def describe() -> str:
    """Code far below a handler finds the job without being given the context."""
    job = current_job()
    return "no job" if job is None else f"job {job.id} ({job.task_identifier})"


class WithFields(logging.Formatter):
    """Shows the fields that `context.logger` adds to each record. JSON formatters show them by themselves."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: record.__dict__[name] for name in ("job_id", "task", "attempt")}
        return f"  logged: {record.getMessage()} {fields}"


def show_logs() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(WithFields())
    logger = logging.getLogger("trio_graphile.job")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


async def main() -> None:
    show_logs()
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        waits = trio.Event()
        worker = Worker(database, tasks, state=waits)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            await client.add_job(send_transfer, Transfer(number="4711"))
            await waits.wait()
            worker.stop()
        print(f"outside of handlers there is {describe()}")


if __name__ == "__main__":
    trio.run(main)
