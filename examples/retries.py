"""Failures: when the next attempt comes, what a handler may say about it, and when there is none.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import trio
from example_database import database_url

from trio_graphile import (
    Client,
    JobContext,
    JobFilter,
    JobSpec,
    JobState,
    PermanentFailure,
    RetryAfter,
    Snooze,
    TaskRegistry,
    Worker,
    open_database,
)
from trio_graphile.hooks import Hooks, JobCompleted, JobEvent, JobFailed, JobFailedPermanently, JobSnoozed

tasks = TaskRegistry()


# Delays are seconds; the last one also holds for all further attempts.
@tasks.task("call_bank", retry=[0.1, 0.3], max_attempts=5)
async def call_bank(context: JobContext) -> None:
    await trio.sleep(0.01)
    if context.attempt < 3:
        raise ConnectionError("nobody answers")


@tasks.task("call_busy_bank")
async def call_busy_bank(context: JobContext) -> None:
    await trio.sleep(0.01)
    if context.attempt == 1:
        raise RetryAfter(0.2, "429 Too Many Requests")  # they said when


@tasks.task("call_closed_bank")
async def call_closed_bank(context: JobContext) -> None:
    await trio.sleep(0.01)
    if not context.state.is_set():
        context.state.set()  # it opens in a moment
        raise Snooze(0.2)  # not a failure: this attempt does not count


@tasks.task("call_no_bank", max_attempts=5)
async def call_no_bank(number: str) -> None:
    await trio.sleep(0.01)
    raise PermanentFailure(f"{number} is no number")  # further attempts would not help


ENDS = (JobCompleted, JobFailedPermanently)
hooks = Hooks()


@hooks.on(JobEvent)
def tell(event: JobEvent) -> None:
    line = f"  {event.job.task_identifier}, attempt {event.job.attempts}:"
    match event:
        case JobFailed(error=error, retry_in=delay):
            print(f"{line} failed ({error.splitlines()[0]}), again in {delay:g} s")
        case JobSnoozed(delay=delay):
            print(f"{line} put off for {delay:g} s")
        case JobFailedPermanently():
            print(f"{line} failed for good")
        case JobCompleted():
            print(f"{line} completed")
        case _:  # whatever else happens to a job
            pass


async def main() -> None:
    logging.getLogger("trio_graphile").setLevel(logging.CRITICAL)  # else each failure shows its traceback
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        print("four calls:")
        soon = JobSpec(run_at=datetime.now(UTC) + timedelta(seconds=0.1))  # a job need not begin at once
        await client.add_job(call_bank, None)
        await client.add_job(call_busy_bank, None, soon)
        await client.add_job(call_closed_bank, None)
        hopeless = await client.add_job(call_no_bank, "one")

        ended = trio.Semaphore(0)
        hooks.on(JobEvent, lambda event: ended.release() if isinstance(event, ENDS) else None)
        worker = Worker(database, tasks, state=trio.Event(), plugins=[hooks])
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            for _ in range(4):
                await ended.acquire()
            worker.stop()

        print("a job that has failed for good stays, to be looked at and tried again:")
        page = await client.jobs(JobFilter(state=JobState.FAILED, task_identifier="call_no_bank"))
        for listed in page.jobs:
            print(f"  job {listed.job.id}: {listed.job.last_error}")
        await client.complete_jobs([hopeless.id])  # or `reschedule_jobs`, with attempts=0


if __name__ == "__main__":
    trio.run(main)
