"""Runs one worker in this process, from its start to its end, and prints what happens to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
import trio

from trio_graphile._cron.item import CronItem
from trio_graphile._database.database import open_database
from trio_graphile._exceptions import DatabaseUnavailable, GraphileError
from trio_graphile._model.outcomes import ShutdownReport, StopCause, counts_of
from trio_graphile._model.statistics import Backlog, WorkerPhase, WorkerStatistics
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.stop_signals import stop_on_signals
from trio_graphile._worker.worker import Worker
from trio_graphile.cli._errors import Superseded
from trio_graphile.cli._output import LinePrinter
from trio_graphile.cli._pages import Metrics, make_metrics, serve
from trio_graphile.cli._settings import Settings
from trio_graphile.cli._setup import Setup, load_setup
from trio_graphile.cli._status import Monitor, status_of
from trio_graphile.cli._supervised import Report, Supervisor
from trio_graphile.hooks import Plugin

logger = logging.getLogger("trio_graphile.cli")

_LEAST_TIME = 0.5
"""How long everything that was opened for the worker may take to close at least, in seconds."""


@attrs.frozen(kw_only=True)
class Work:
    """What the worker of this process runs, and with what."""

    settings: Settings
    tasks: TaskRegistry
    printer: LinePrinter
    crontab: Sequence[CronItem] = ()
    plugins: Sequence[Plugin] = ()
    setup: Setup = load_setup(None)  # noqa: RUF009  # it is frozen
    """The setup that lends the worker state, plugins and recurring jobs."""
    once: bool = False
    supervisor: Supervisor | None = None
    """The supervisor that started this process, if there is one."""


@attrs.define(eq=False)
class Host:
    """Stops and shows a worker, even before it exists: while its database and state are opened."""

    flush_timeout: float
    grace_period: float
    worker: Worker | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # never a shield
    """The scope of everything that is opened for the worker. If it is cancelled before, the worker never
    runs."""
    _stopped_at: float | None = None
    _is_over: bool = False
    """Whether the worker has ended."""

    @property
    def worker_id(self) -> str:
        """The id of the worker, once it exists."""
        return "" if self.worker is None else self.worker.worker_id

    def statistics(self) -> WorkerStatistics:
        """Return what the worker does, or that it has not started yet."""
        if self.worker is None:
            return WorkerStatistics(phase=WorkerPhase.STARTING)
        return self.worker.statistics()

    async def backlog(self) -> Backlog:
        """Count the jobs of the queue. Raises `DatabaseUnavailable` before the worker exists."""
        if self.worker is None:
            raise DatabaseUnavailable("the database is not open yet")
        return await self.worker.backlog()

    def stop(self) -> None:
        """Stop the worker; before it exists, end at once."""
        if self._stopped_at is None:
            self._stopped_at = trio.current_time()
        if self.worker is None or self._is_over:
            self.scope.cancel()
        else:
            self.worker.stop()

    def cancel(self) -> None:
        """Cancel the worker; before it exists, end at once."""
        self.stop()
        if self.worker is not None:
            self.worker.cancel()

    async def wait_ended(self) -> None:
        """Never return. What stops us is cancelled at the end."""
        await trio.sleep_forever()

    def begin_to_leave(self) -> None:
        """Note that the worker has ended. What was opened for it must close in the rest of its time."""
        self._is_over = True
        now = trio.current_time()
        began = now if self._stopped_at is None else self._stopped_at
        self.scope.deadline = max(began + self.grace_period + self.flush_timeout, now + _LEAST_TIME)


async def work(wanted: Work, url: str | None) -> None:
    """Run the worker and print how it starts and ends. Raises `Superseded` and what `Worker.run` raises."""
    settings, metrics = wanted.settings, make_metrics(wanted.settings)
    shutdown = settings.worker.shutdown
    host = Host(flush_timeout=shutdown.flush_timeout, grace_period=shutdown.grace_period)
    ended: _Ended | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signals, host)
        if wanted.supervisor is not None:
            nursery.start_soon(wanted.supervisor.stop_when_alone, host)
        await _serve(nursery, wanted, metrics, host)
        with host.scope:
            async with open_database(url, settings.database) as database, wanted.setup.lend(database) as lent:
                host.worker = Worker(
                    database,
                    wanted.tasks,
                    settings.worker,
                    state=lent.state,
                    crontab=[*wanted.crontab, *lent.crontab],
                    plugins=[*wanted.plugins, *lent.plugins, *metrics.plugins],
                )
                ended = await _run(host.worker, wanted, where=database.address)
                host.begin_to_leave()
        nursery.cancel_scope.cancel()
    _conclude(wanted, host, ended)


_Ended: TypeAlias = ShutdownReport | GraphileError


def _conclude(wanted: Work, host: Host, ended: _Ended | None) -> None:
    """Print how the worker has ended, or raise it."""
    if ended is None:
        wanted.printer.print_line("ended", "ended before the worker had started")
        return
    if host.scope.cancelled_caught:
        logger.error("what was open beside the worker (--setup) did not close in time, and was cancelled")
    if isinstance(ended, GraphileError):
        raise ended
    wanted.printer.print_line("ended", describe_end(ended), **_counts(ended))
    if ended.cause is StopCause.SUPERSEDED:
        raise Superseded("the schema was migrated past what this version can work with: install a newer one")


async def _serve(nursery: trio.Nursery, wanted: Work, metrics: Metrics, host: Host) -> None:
    number = 1 if wanted.supervisor is None else wanted.supervisor.number
    served = await serve(nursery, wanted.settings, host, metrics, number=number)
    for address, pages in served.items():
        wanted.printer.print_line("serving", f"serving {', '.join(pages)} on {address}", address=address)


async def _run(worker: Worker, wanted: Work, where: str) -> _Ended:
    """Run the worker and return how it ended, whatever the setup function does after that."""
    supervisor = wanted.supervisor
    async with trio.open_nursery() as nursery:
        if supervisor is not None:
            supervisor.send(Report(worker_id=worker.worker_id))

        def announce() -> None:
            wanted.printer.print_line("started", _describe_start(worker, where), **_facts(worker))
            if supervisor is not None:
                nursery.start_soon(supervisor.report_status, worker)
            else:
                nursery.start_soon(_monitor(worker, wanted).run)

        ended: _Ended
        try:
            if wanted.once:
                announce()
                ended = await worker.run_once()
            else:
                ended = await worker.run(task_status=_Started(announce))
        except GraphileError as error:
            ended = error
        nursery.cancel_scope.cancel()
    return ended


def _monitor(worker: Worker, wanted: Work) -> Monitor:
    return Monitor(
        look=lambda: [status_of("1", worker.statistics())],
        count_backlog=worker.backlog,
        printer=wanted.printer,
        interval=wanted.settings.status_interval,
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


_ALWAYS_SAID = ("completed", "failed", "returned")
"""The outcomes that are named even if no run had them."""
_OUTCOMES = {"returned": "given back", "lost": "lost to other workers"}
"""What an outcome is called, unless as in `ShutdownReport`."""


def describe_end(report: ShutdownReport) -> str:
    """Return how a worker has ended, for people: each outcome that a run had, and three in any case."""
    counts = ", ".join(
        f"{count} {_OUTCOMES.get(name, name)}"
        for name, count in counts_of(report).items()
        if count or name in _ALWAYS_SAID
    )
    threads = "; ".join(
        f"job {thread.job_id} ({thread.task_identifier}) at {thread.place}" for thread in report.abandoned
    )
    abandoned = f"; still running in threads: {threads}" if threads else ""
    return f"{report.worker_id} ended: {counts}; that took {report.seconds:.2f} s{abandoned}"


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
