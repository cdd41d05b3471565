"""Two tasks, some jobs, a worker beside the rest of a program, and a clean end. Brings its own PostgreSQL."""

from __future__ import annotations

import attrs
import trio

from trio_graphile import Client, JobSpec, TaskRegistry, Worker, WorkerOptions, open_database
from trio_graphile.embedded import embedded_postgres

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"  # a default is how rows written before this field existed stay readable


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome) -> None:
    await trio.sleep(0.05)  # a mail server would take its time too
    print(f"  sent {payload.locale} welcome to {payload.to}")


@tasks.task("count_words")  # a payload may be any type that JSON can hold
async def count_words(text: str) -> None:
    print(f"  {len(text.split())} words in {text!r}")


async def main() -> None:
    async with embedded_postgres() as server, open_database(server.url) as database:
        client = Client(database, tasks)
        await client.migrate()

        print("adding jobs before any worker runs")
        await client.add_jobs([(send_welcome, Welcome(to=f"{who}@example.org")) for who in ("ada", "grace")])
        await client.add_job(count_words, "to be or not to be", JobSpec(priority=-1))

        # The job becomes visible when the transaction commits, and never if it rolls back.
        async with database.transaction() as connection:
            await client.using(connection).add_job(send_welcome, Welcome(to="dijkstra@example.org"))

        print("draining the queue once")
        report = await Worker(database, tasks, WorkerOptions(concurrency=4)).run_once()
        print(f"  {report.completed} completed, {report.failed} failed")

        worker = Worker(database, tasks)
        print("running a worker beside the rest of the program")
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)  # returns as soon as it listens
            await client.add_job(send_welcome, Welcome(to="alan@example.org"))
            await trio.sleep(0.5)  # whatever else the program does
            worker.stop()  # running handlers may finish; the nursery ends when the last one is recorded
        print("stopped: nothing is locked, nothing is lost")


if __name__ == "__main__":
    trio.run(main)
