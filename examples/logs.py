"""Logs: a line for each event, as text and as JSON, and what a handler logs beside it.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import json
import logging
import sys

import trio
from example_database import database_url

from trio_graphile import Client, JobContext, TaskRegistry, Worker, open_database
from trio_graphile.hooks import JobEvent, JobTaken, WorkerEnded
from trio_graphile.plugins.logging import LEVELS, Logging

tasks = TaskRegistry()


@tasks.task("print_badge")
async def print_badge(name: str, context: JobContext) -> None:
    context.logger.info("for %s", name, extra={"printer": "hall"})  # the job's fields are there anyway
    await trio.sleep(0.01)


class AsJson(logging.Formatter):
    """A line of JSON with all fields of a record. Libraries for that do the same, and more."""

    STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"event"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in record.__dict__.items() if name not in self.STANDARD}
        event = getattr(record, "event", record.getMessage())
        return json.dumps({"level": record.levelname, "event": event, **fields}, default=str)


def log_to_stdout(formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logger = logging.getLogger("trio_graphile")  # `trio_graphile.events` and `trio_graphile.job` are below
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        for formatter in (logging.Formatter("  %(levelname)s %(name)s: %(message)s"), AsJson()):
            print(f"{type(formatter).__name__}:")
            log_to_stdout(formatter)
            await client.add_job(print_badge, "ada")
            # Some events only, and one of them at another level than by default.
            plugin = Logging(events=(JobEvent, WorkerEnded), levels={**LEVELS, JobTaken: logging.INFO})
            await Worker(database, tasks, plugins=[plugin]).run_once()


if __name__ == "__main__":
    trio.run(main)
