"""See what happens to each job, and have a say in it: observers, interceptors, a plugin, and health.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio
from example_database import database_url

from trio_graphile import (
    Client,
    JobRefused,
    JobSkipped,
    Snooze,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.hooks import (
    Fail,
    Hooks,
    JobCompleted,
    JobEvent,
    JobFailedPermanently,
    JobRun,
    JobRunEnd,
    JobToAdd,
    Rewrite,
    Skip,
    WorkerEnded,
)
from trio_graphile.plugins.pages import health_pages, serve_pages

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Mail:
    to: str
    tenant: str = "nobody"  # the plugin below fills it in


@tasks.task("mail")
async def mail(payload: Mail) -> None:
    await trio.sleep(0.01)
    print(f"  a mail to {payload.to}, for {payload.tenant}")


@tasks.task("import", max_attempts=1)
def import_rows() -> None:
    raise ValueError("row 7 makes no sense")


@attrs.define
class Tenancy:
    """A plugin: any object with a method `register`. Given to client and worker, it may hold a state."""

    tenant: str
    counts: Counter[str] = attrs.field(factory=Counter)

    def register(self, hooks: Hooks) -> None:
        hooks.before_job_schedule(self.sign)
        hooks.before_job_run(self.admit)
        hooks.after_job_run(self.forgive)
        hooks.around_job_run(self.frame)
        hooks.on(JobEvent, self.count)

    def sign(self, job: JobToAdd) -> Rewrite | Skip | Fail | None:
        """Runs in the call that adds the job, whoever makes it: a client, a handler, a crontab."""
        if job.identifier != "mail":
            return None
        if job.payload["to"].endswith("@example.com"):
            return Skip("an address that does not exist")
        if not self.tenant:
            return Fail("no tenant is known")
        return Rewrite({**job.payload, "tenant": self.tenant})

    def admit(self, run: JobRun) -> None:
        """Runs in the slot. What it raises means what it means in a handler."""
        if run.job.task_identifier == "mail" and self.counts["JobStarted"] >= 2:
            raise Snooze(3600)  # that is enough for now; it costs the job no attempt

    async def forgive(self, end: JobRunEnd) -> Skip | None:
        return Skip("known") if end.error is not None and "row 7" in end.error else None

    @contextmanager
    def frame(self, run: JobRun) -> Iterator[None]:
        """For spans and context variables: the handler runs inside."""
        print(f"  job {run.job.id} ({run.job.task_identifier}):")
        yield

    def count(self, event: JobEvent) -> None:
        """Runs beside the jobs, which do not wait for it. Told of a base class, it hears of all below."""
        self.counts[type(event).__name__] += 1


hooks = Hooks()  # for a few hooks no class is needed: a registry is a plugin, too


@hooks.on(JobCompleted)
async def celebrate(event: JobCompleted) -> None:
    await trio.sleep(0.001)  # it may take its time, up to a limit
    print(f"  job {event.job.id} is done and its row is gone: {event.duration * 1000:.0f} ms")


@hooks.on(JobFailedPermanently)
def mourn(event: JobFailedPermanently) -> None:
    print(f"  job {event.job.id} has failed for good: {event.error}")


@hooks.on(WorkerEnded)
def say_goodbye(event: WorkerEnded) -> None:
    print(f"  the worker has ended: {event.cause}")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        tenancy = Tenancy("acme")
        client = Client(database, tasks, plugins=[tenancy])
        await client.migrate()

        print("adding:")
        addresses = ["ada@example.org", "nobody@example.com", "grace@example.org", "edsger@example.org"]
        added = await client.add_jobs([(mail, Mail(to=address)) for address in addresses])
        print(f"  {len(added)} added; left out: {[(job.position, job.reason) for job in added.skipped]}")
        await client.add_job(import_rows, None)
        try:
            await client.add_job(mail, Mail(to="nobody@example.com"))
        except JobSkipped as skipped:
            print(f"  {skipped}")
        try:
            await Client(database, tasks, plugins=[Tenancy("")]).add_job(mail, Mail(to="ada@example.org"))
        except JobRefused as refused:
            print(f"  {refused}")

        print("running:")
        worker = Worker(database, tasks, WorkerOptions(concurrency=1), plugins=[tenancy, hooks])
        await worker.run_once()
        print(f"  seen: {dict(tenancy.counts)}")

        print("the health of a worker, for orchestrators:")
        worker = Worker(database, tasks)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            address = await nursery.start(serve_pages, "127.0.0.1:0", health_pages(worker))
            print(f"  {await fetch(address, '/readyz')}")
            worker.stop()
            await worker.wait_ended()
            print(f"  {await fetch(address, '/readyz')}")
            nursery.cancel_scope.cancel()


async def fetch(address: str, path: str) -> str:
    """Return what is answered. A browser would do as well."""
    host, _, port = address.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        answer = b"".join([chunk async for chunk in stream]).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return f"{head.splitlines()[0]}: {body}"


if __name__ == "__main__":
    trio.run(main)
