"""Metrics: counters of your own, and the ready-made ones for Prometheus on a page.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import logging

import attrs
import prometheus_client
import trio
from example_database import database_url

from trio_graphile import Client, TaskRegistry, Worker, open_database
from trio_graphile.hooks import Hooks, JobCompleted, JobEvent, JobFailed, JobStarted, WorkerEnded
from trio_graphile.plugins.pages import serve_pages
from trio_graphile.plugins.prometheus import Prometheus

tasks = TaskRegistry()


@tasks.task("resize_image", retry=[3600])
async def resize_image(name: str) -> None:
    await trio.sleep(0.02)
    if name == "broken.png":
        raise ValueError("this is no image")


@attrs.define
class Counters:
    """A plugin that counts, and says at the end what it has counted."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    seconds: float = 0.0

    def register(self, hooks: Hooks) -> None:
        hooks.on(JobEvent, self.count)
        hooks.on(WorkerEnded, self.say)

    def count(self, event: JobEvent) -> None:
        match event:
            case JobStarted():
                self.started += 1
            case JobCompleted(duration=duration):
                self.completed += 1
                self.seconds += duration
            case JobFailed():
                self.failed += 1
            case _:
                pass

    def say(self, event: WorkerEnded) -> None:
        print(f"  {event.worker_id} has ended")
        print(f"  {self.started} started, {self.completed} completed, {self.failed} failed")
        print(f"  {self.seconds / self.completed * 1000:.0f} ms for each of those that completed")


async def main() -> None:
    logging.getLogger("trio_graphile").setLevel(logging.CRITICAL)  # else the failure is logged, too
    metrics = Prometheus(prometheus_client.CollectorRegistry())
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        names = ["ada.png", "grace.png", "broken.png"]
        jobs = await client.add_jobs([(resize_image, name) for name in names])

        print("counters of your own:")
        await Worker(database, tasks, plugins=[Counters(), metrics]).run_once()
        await client.complete_jobs([job.id for job in jobs])  # the one that waits for its next attempt

        print("what Prometheus reads:")
        worker = Worker(database, tasks, plugins=[metrics])  # one plugin for all workers of a process
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            address = await nursery.start(serve_pages, "127.0.0.1:0", metrics.pages())
            for line in (await fetch(address, "/metrics")).splitlines():
                if line.startswith(("trio_graphile_jobs_ended_total", "trio_graphile_worker_up")):
                    print(f"  {line}")
            nursery.cancel_scope.cancel()


async def fetch(address: str, path: str) -> str:
    host, _, port = address.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream]).decode()


if __name__ == "__main__":
    trio.run(main)
