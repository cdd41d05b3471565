"""What a program lends to all its handlers: settings, a client, a cache, each found by its type.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, JobContext, State, StateMissing, TaskRegistry, Worker, open_database

tasks = TaskRegistry()


@attrs.frozen
class Settings:
    sender: str


@attrs.define
class Mailer:
    """Something that is opened once and shared by all jobs."""

    sent: list[str] = attrs.field(factory=list)
    limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(2))

    async def send(self, line: str) -> None:
        async with self.limiter:
            await trio.sleep(0.01)
            self.sent.append(line)


class SilentMailer(Mailer):
    """One for tests. It is found as the class that it stands in for."""

    async def send(self, line: str) -> None:
        await trio.lowlevel.checkpoint()
        print(f"  not sent: {line}")


@tasks.task("send_welcome", needs=[Mailer, Settings])  # a worker without these is not even made
async def send_welcome(to: str, context: JobContext) -> None:
    settings = context.get(Settings)  # a type checker knows what it is
    await context.get(Mailer).send(f"from {settings.sender} to {to}")


@tasks.task("count")
def count(context: JobContext) -> None:  # in a thread: what is shared must bear it
    print(f"  sent so far: {len(context.get(Mailer).sent)}")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()

        print("a worker that lacks what a task needs:")
        try:
            Worker(database, tasks, state=State(Mailer()))
        except StateMissing as missing:
            print(f"  {missing}")

        print("one that has it:")
        mailer = Mailer()
        await client.add_jobs([(send_welcome, to) for to in ("ada", "grace", "edsger")])
        await Worker(database, tasks, state=State(mailer, Settings(sender="acme"))).run_once()
        await client.add_job(count, None)
        await Worker(database, tasks, state=State(mailer, Settings(sender="acme"))).run_once()
        for line in sorted(mailer.sent):
            print(f"  {line}")

        print("and one for a test:")
        await client.add_job(send_welcome, "nobody")
        report = await Worker(database, tasks, state=State(SilentMailer(), Settings("test"))).run_once()
        print(f"  {report.completed} completed")


if __name__ == "__main__":
    trio.run(main)
