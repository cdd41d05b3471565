"""An interceptor that looks at each job before it runs: it lets pass, skips, or fails it.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import logging

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, TaskRegistry, Worker, WorkerOptions, open_database
from trio_graphile.hooks import Continue, Fail, Hooks, JobCompleted, JobFailedPermanently, JobRun, Skip

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Reading:
    sensor: str
    celsius: float


@tasks.task("store_reading")
async def store_reading(reading: Reading) -> None:
    await trio.sleep(0.01)
    print(f"  stored: {reading.celsius} degrees at {reading.sensor}")


@attrs.frozen
class Plausibility:
    """A plugin for jobs of all tasks, of which the handlers know nothing."""

    retired: frozenset[str]

    def register(self, hooks: Hooks) -> None:
        hooks.before_job_run(self.check)
        hooks.on(JobCompleted, self.note_end)
        hooks.on(JobFailedPermanently, self.note_failure)

    def check(self, run: JobRun) -> Continue | Skip | Fail:
        """Called in the slot, before the handler. A coroutine function may ask a database here, say."""
        reading = run.job.payload  # plain JSON: it is checked against the type of the task only later
        if reading["sensor"] in self.retired:
            return Skip("that sensor is retired")  # the job counts as completed
        if reading["celsius"] < -273.15:
            return Fail("colder than possible", permanent=True)  # else it would be tried again
        return Continue()  # or None: the next interceptor is asked, then the handler is called

    def note_end(self, event: JobCompleted) -> None:
        print(f"  job {event.job.id} is completed, whether its handler was called or not")

    def note_failure(self, event: JobFailedPermanently) -> None:
        print(f"  job {event.job.id} has failed: {event.error}")


async def main() -> None:
    logging.getLogger("trio_graphile").setLevel(logging.CRITICAL)  # else the failure is logged, too
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        readings = [("roof", 12.5), ("cellar", 9.0), ("roof", -300.0), ("attic", 21.0)]
        jobs = await client.add_jobs(
            [(store_reading, Reading(sensor=sensor, celsius=value)) for sensor, value in readings]
        )
        print("four readings:")
        plugin = Plausibility(retired=frozenset({"cellar"}))
        report = await Worker(database, tasks, WorkerOptions(concurrency=1), plugins=[plugin]).run_once()
        print(f"  {report.completed} completed, {report.failed} failed")
        await client.complete_jobs([job.id for job in jobs])  # the one that has failed stays otherwise


if __name__ == "__main__":
    trio.run(main)
