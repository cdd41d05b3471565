"""`trio-graphile run`: a worker as a program."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated

import attrs
import trio
from cyclopts import Parameter

from trio_graphile._cron.item import CronItem
from trio_graphile._database.database import open_database
from trio_graphile._database.errors import safe_url
from trio_graphile._exceptions import CrontabInvalid
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.signals import stop_on_signals
from trio_graphile._worker.worker import Worker
from trio_graphile.cli._config import FILE_NAME
from trio_graphile.cli._crontab import load_crontab
from trio_graphile.cli._errors import Superseded, UsageError
from trio_graphile.cli._executables import with_executables
from trio_graphile.cli._flags import (
    NOTHING_GIVEN,
    CommonFlags,
    RunFlags,
    Switch,
    WorkerFlags,
    given,
)
from trio_graphile.cli._settings import KeyPath, Settings
from trio_graphile.cli._tasks import load_tasks
from trio_graphile.embedded import embedded_postgres

_NO_RUN_FLAGS = RunFlags()
_NO_WORKER_FLAGS = WorkerFlags()


async def run(
    tasks: str | None = None,
    /,
    *,
    once: Switch = False,
    embedded: Switch = False,
    run_flags: Annotated[RunFlags, Parameter(name="*")] = _NO_RUN_FLAGS,
    common: CommonFlags = NOTHING_GIVEN,
    worker_flags: Annotated[WorkerFlags, Parameter(name="*")] = _NO_WORKER_FLAGS,
) -> None:
    """Run jobs until a signal ends it.

    Args:
        tasks: Where the TaskRegistry is, as MODULE:NAME, such as app.jobs:tasks.
        once: End as soon as no job is due.
        embedded: Use a PostgreSQL of its own, in a temporary folder that is gone afterwards.
    """
    named: dict[KeyPath, object] = {} if tasks is None else {("tasks",): tasks}
    settings = common.settings({**given(run_flags, worker_flags), **named})
    registry = with_executables(_registry(settings), settings.executables)
    items = _load_items(settings.crontab, once=once)
    if embedded and ("database", "url") in given(common.database):
        raise UsageError("--embedded brings a database of its own: leave out --database-url")
    async with (
        _server(settings.database.url, embedded=embedded) as url,
        open_database(url, settings.database) as database,
    ):
        worker = Worker(database, registry, settings.worker, crontab=items)
        report = await _work(worker, where=safe_url(url), once=once)
    _print(_describe_end(report))
    if report.cause is StopCause.SUPERSEDED:
        raise Superseded("the schema was migrated past what this version can work with: install a newer one")


def _registry(settings: Settings) -> TaskRegistry:
    """Return the tasks that are named; none is fine if there are executables."""
    if settings.tasks is not None:
        return load_tasks(settings.tasks)
    if settings.executables is None:
        raise UsageError(
            "no tasks are named: trio-graphile run MODULE:TASKS, such as app.jobs:tasks, "
            f'or tasks = "app.jobs:tasks" in {FILE_NAME}'
        )
    return TaskRegistry()


def _load_items(crontab: Path | None, *, once: bool) -> Sequence[CronItem]:
    if crontab is None:
        return ()
    if once:
        raise UsageError("--once ends before recurring jobs are due: leave out --crontab")
    reading = load_crontab(crontab)
    if reading.mistakes:
        raise CrontabInvalid(reading.mistakes)
    return reading.items


@contextlib.asynccontextmanager
async def _server(url: str | None, *, embedded: bool) -> AsyncIterator[str | None]:
    """Yield the URL of the database, None if only the PG* variables say where it is."""
    if not embedded:
        yield url
        return
    async with embedded_postgres() as server:
        yield server.url


async def _work(worker: Worker, *, where: str, once: bool) -> ShutdownReport:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_on_signals, worker)
        if once:
            _print(_describe_start(worker, where))
            report = await worker.run_once()
        else:
            report = await worker.run(task_status=_Announcement(_describe_start(worker, where)))
    return report


@attrs.frozen
class _Announcement(trio.TaskStatus[None]):
    """Prints its text when the worker has started."""

    _text: str

    def started(self, value: None = None) -> None:  # noqa: ARG002  # the interface's
        _print(self._text)


def _describe_start(worker: Worker, where: str) -> str:
    tasks = ", ".join(worker.tasks.identifiers)
    entries = f"crontab entries: {len(worker.crontab)}; " if worker.crontab else ""
    return (
        f"{worker.worker_id} runs {tasks}; {worker.options.concurrency} at once; {entries}"
        f"{where}, schema {worker.database.schema}"
    )


def _describe_end(report: ShutdownReport) -> str:
    counts = f"{report.completed} completed, {report.failed} failed, {report.returned} given back"
    snoozed = f", {report.snoozed} snoozed" if report.snoozed else ""
    lost = f", {report.lost} lost to other workers" if report.lost else ""
    threads = "; ".join(
        f"job {thread.job_id} ({thread.task_identifier}) at {thread.place}" for thread in report.abandoned
    )
    abandoned = f"; still running in threads: {threads}" if threads else ""
    return f"{report.worker_id} ended: {counts}{snoozed}{lost}; that took {report.seconds:.2f} s{abandoned}"


def _print(text: str) -> None:
    print(text, flush=True)  # whoever reads it through a pipe waits for it
