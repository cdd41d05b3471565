"""One worker in this process, from its start to its end, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from trio_graphile._cron.item import CronItem
from trio_graphile._database.database import open_database
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.signals import stop_on_signals
from trio_graphile._worker.worker import Worker
from trio_graphile.cli._errors import Superseded
from trio_graphile.cli._output import Voice
from trio_graphile.cli._pages import Metrics, make_metrics, serve
from trio_graphile.cli._settings import Settings
from trio_graphile.cli._status import Monitor, status_of
from trio_graphile.cli._supervised import Supervisor, Word
from trio_graphile.hooks import Plugin


@attrs.frozen(kw_only=True)
class Work:
    """What a worker of this process is to do."""

    settings: Settings
    tasks: TaskRegistry
    voice: Voice
    crontab: Sequence[CronItem] = ()
    plugins: Sequence[Plugin] = ()
    once: bool = False
    supervisor: Supervisor | None = None
    """Who started this process, if somebody watches over it."""


async def work(task: Work, url: str | None) -> None:
    """Run the worker and say how it starts and ends. Raises `Superseded` and what `Worker.run` raises."""
    settings, metrics = task.settings, make_metrics(task.settings)
    async with open_database(url, settings.database) as database:
        plugins = [*task.plugins, *metrics.plugins]
        worker = Worker(database, task.tasks, settings.worker, crontab=task.crontab, plugins=plugins)
        report = await _run(worker, task, metrics, where=database.address)
    task.voice.say("ended", _describe_end(report), **_counts(report))
    if report.cause is StopCause.SUPERSEDED:
        raise Superseded("the schema was migrated past what this version can work with: install a newer one")


async def _run(worker: Worker, task: Work, metrics: Metrics, where: str) -> ShutdownReport:
    supervisor = task.supervisor
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signals, worker)
        if supervisor is not None:
            supervisor.say(Word(worker_id=worker.worker_id))
            nursery.start_soon(supervisor.stop_when_alone, worker)

        number = 1 if supervisor is None else supervisor.number
        served = await serve(nursery, task.settings, worker, metrics, number=number)
        for address, pages in served.items():
            task.voice.say("serving", f"serving {', '.join(pages)} on {address}", address=address)

        def announce() -> None:
            task.voice.say("started", _describe_start(worker, where), **_facts(worker))
            if supervisor is not None:
                nursery.start_soon(supervisor.report, worker)
            else:
                nursery.start_soon(_monitor(worker, task).run)

        if task.once:
            announce()
            report = await worker.run_once()
        else:
            report = await worker.run(task_status=_Started(announce))
        nursery.cancel_scope.cancel()
    return report


def _monitor(worker: Worker, task: Work) -> Monitor:
    return Monitor(
        look=lambda: [status_of("1", worker.statistics())],
        count_backlog=worker.backlog,
        voice=task.voice,
        interval=task.settings.status_interval,
    )


@attrs.frozen
class _Started(trio.TaskStatus[None]):
    """Calls a function when the worker has started."""

    _announce: Callable[[], None]

    def started(self, value: None = None) -> None:  # noqa: ARG002  # the interface's
        self._announce()


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


def _facts(worker: Worker) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "tasks": worker.tasks.identifiers,
        "concurrency": worker.options.concurrency,
        "schema": worker.database.schema,
    }


def _counts(report: ShutdownReport) -> dict[str, Any]:
    return {
        name: value
        for name, value in attrs.asdict(report, recurse=False).items()
        if isinstance(value, (int, float, str))
    } | {"cause": report.cause.value}
