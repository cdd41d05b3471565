"""Batches: one job, many items. Those that fail are tried again, the others are done.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, JobContext, JobSpec, TaskRegistry, Worker, open_database

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Letter:
    to: str
    text: str


@tasks.batch_task("deliver", retry=[0])  # tried again at once, not after some seconds
async def deliver(letters: list[Letter], context: JobContext) -> list[BaseException | None]:
    print(f"  attempt {context.attempt}: to the post office, letters: {len(letters)}")
    await trio.sleep(0.02)  # the way there
    return [problem_with(letter, context.attempt) for letter in letters]


def problem_with(letter: Letter, attempt: int) -> Exception | None:
    if letter.to == "edsger" and attempt == 1:
        return ConnectionError("nobody at home")
    print(f"    {letter.to}: {letter.text}")
    return None


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()

        print("letters gather under a key until a worker takes them:")
        for name in ("ada", "edsger", "grace"):
            job = await client.add_batch_job(
                deliver, [Letter(to=name, text="welcome")], JobSpec(job_key="post of today")
            )
            print(f"  job {job.id}, letters: {len(job.payload)}")

        print("a worker:")
        report = await Worker(database, tasks).run_once()
        print(f"  {report.completed} completed after {report.failed} failed")


if __name__ == "__main__":
    trio.run(main)
