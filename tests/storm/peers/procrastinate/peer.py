"""Procrastinate in the storm: installs its schema, adds jobs, or is a worker.

Its stop, by https://procrastinate.readthedocs.io/en/stable/howto/advanced/shutdown.html: at SIGTERM the
worker waits `shutdown_graceful_timeout` for its jobs, and aborts the others, which cancels the asyncio task
of each. Jobs that heed nothing keep it from ending; to kill it is left to who supervises it. An aborted job
runs again only if its task has a retry strategy, so ours has one. Those of a killed worker run again if a
periodic task finds them:
https://procrastinate.readthedocs.io/en/stable/howto/production/retry_stalled_jobs.html has ours, with all
durations as they are there.
"""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy  # type: ignore[import-not-found]
from procrastinate.exceptions import ConnectorException  # type: ignore[import-not-found]

from tests.storm.peers.program import (
    Handler,
    adding,
    leave,
    lines,
    open_handler,
    run_program,
    say_ready,
    told,
)

_ATTEMPTS = 25


class Announcer(logging.Filter):
    """Says that the worker is ready once the worker says so in its log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "action", None) == "start_worker":
            worker: Any = getattr(record, "worker", {})
            say_ready(worker["worker_id"])
        return record.levelno >= logging.WARNING


def app_of(sessions: int, handler: Handler | None = None) -> tuple[Any, Any]:
    connector = PsycopgConnector(conninfo=told().database_url, min_size=1, max_size=sessions)
    app = App(connector=connector)

    # By default it waits for no time before a retry.
    @app.task(name="work", pass_context=True, retry=RetryStrategy(max_attempts=_ATTEMPTS))  # type: ignore[untyped-decorator]
    async def work(context: JobContext, **payload: Any) -> None:
        assert handler is not None
        await handler.run(payload, context.job.attempts + 1)

    @app.periodic(cron="*/10 * * * *")  # type: ignore[untyped-decorator]
    @app.task(queueing_lock="retry_stalled_jobs", pass_context=True)  # type: ignore[untyped-decorator]
    async def retry_stalled_jobs(_context: JobContext, timestamp: int) -> None:
        for job in await app.job_manager.get_stalled_jobs():
            await app.job_manager.retry_job(job)

    return app, work


async def setup() -> None:
    app, _ = app_of(1)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def add() -> None:
    app, task = app_of(1)
    async with app.open_async():
        async for payloads in lines():
            with adding(ConnectorException, psycopg.Error):
                await task.batch_defer_async(*payloads)


async def worker() -> None:
    logging.basicConfig(level=logging.WARNING)
    log = logging.getLogger("procrastinate.worker.worker")
    log.setLevel(logging.INFO)
    log.addFilter(Announcer())
    async with open_handler() as handler:
        concurrency = told().concurrency
        app, _ = app_of(concurrency + 2, handler)
        async with app.open_async():
            await app.run_worker_async(concurrency=concurrency, shutdown_graceful_timeout=told().grace)
        leave()


if __name__ == "__main__":
    run_program(setup=setup, add=add, worker=worker)
