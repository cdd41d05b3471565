"""`trio-graphile run`: a worker as a program, or several."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import attrs
import trio
from cyclopts import Parameter

from trio_graphile._client import Client
from trio_graphile._database.database import open_database
from trio_graphile._model.statistics import Backlog
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.cli._config import FILE_NAME
from trio_graphile.cli._crontab import load_items
from trio_graphile.cli._errors import UsageError, WorkersFailed
from trio_graphile.cli._executables import with_executables
from trio_graphile.cli._flags import (
    NOTHING_GIVEN,
    CommonFlags,
    RunFlags,
    Switch,
    WorkerFlags,
    given,
)
from trio_graphile.cli._output import LinePrinter
from trio_graphile.cli._plugins import load_plugins
from trio_graphile.cli._settings import KeyPath, Settings
from trio_graphile.cli._setup import load_setup
from trio_graphile.cli._status import Monitor
from trio_graphile.cli._supervised import Supervisor
from trio_graphile.cli._supervisor import Processes, command_of_a_worker
from trio_graphile.cli._tasks import load_tasks
from trio_graphile.cli._working import Work, work
from trio_graphile.embedded import embedded_postgres

_NO_RUN_FLAGS = RunFlags()
_NO_WORKER_FLAGS = WorkerFlags()
_STATEMENT_TIMEOUT = 10.0


async def run(
    tasks: str | None = None,
    /,
    *,
    once: Switch = False,
    embedded: Switch = False,
    reload: Switch = False,
    run_flags: Annotated[RunFlags, Parameter(name="*")] = _NO_RUN_FLAGS,
    common: CommonFlags = NOTHING_GIVEN,
    worker_flags: Annotated[WorkerFlags, Parameter(name="*")] = _NO_WORKER_FLAGS,
    supervised: Annotated[tuple[int, int] | None, Parameter(show=False)] = None,
) -> None:
    """Run jobs until a signal ends it.

    Args:
        tasks: Where the TaskRegistry is, as MODULE:NAME, such as app.jobs:tasks.
        once: End as soon as no job is due.
        embedded: Start a PostgreSQL for this run, in a temporary folder that is removed afterwards.
        reload: For development: restart whenever a file below the current folder has changed.
        supervised: The pipe of the supervisor that started this process, and the number of its worker.
    """
    named: dict[KeyPath, object] = {} if tasks is None else {("tasks",): tasks}
    flags = {**given(run_flags, worker_flags), **named}
    settings = common.settings(flags)
    if once and ("crontab",) in flags:
        raise UsageError("--once ends before recurring jobs are due: leave out --crontab")
    printer = LinePrinter(common.as_json)
    if supervised is None and embedded and ("database", "url") in given(common.database):
        raise UsageError("--embedded brings a database of its own: leave out --database-url")
    if supervised is None and (reload or settings.processes > 1):
        async with _server(settings.database.url, embedded=embedded) as url:
            await _supervise(settings, url, printer, reload=reload)
        return
    wanted = Work(
        settings=settings,
        tasks=with_executables(_registry(settings), settings.executables),
        crontab=() if once or settings.crontab is None else load_items(settings.crontab),
        plugins=load_plugins(settings.plugins),
        setup=load_setup(settings.setup),
        printer=printer,
        once=once,
        supervisor=None if supervised is None else Supervisor(*supervised),
    )
    async with _server(settings.database.url, embedded=embedded and supervised is None) as url:
        await work(wanted, url)


async def _supervise(settings: Settings, url: str | None, printer: LinePrinter, *, reload: bool) -> None:
    """Run workers in processes of their own. Raises `WorkersFailed`."""
    watched = tuple(file for file in (settings.crontab,) if file is not None)
    # A statement of the supervisor must not keep it from ending.
    options = attrs.evolve(settings.database, wait_for_server=None, statement_timeout=_STATEMENT_TIMEOUT)

    async def count_backlog() -> Backlog:
        async with open_database(url, options) as database:
            return await Client(database).backlog()

    processes = Processes(
        count=settings.processes,
        command=command_of_a_worker(sys.argv[1:]),
        environment=os.environ if url is None else {**os.environ, "TRIO_GRAPHILE_DATABASE_URL": url},
        shutdown=settings.worker.shutdown,
        url=url,
        database=options,
        printer=printer,
        watched=watched if reload else None,
    )
    monitor = Monitor(
        look=processes.statuses,
        count_backlog=count_backlog,
        printer=printer,
        interval=settings.status_interval,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        exit_code = await processes.run()
        nursery.cancel_scope.cancel()
    if exit_code != 0:
        raise WorkersFailed(exit_code)


def _registry(settings: Settings) -> TaskRegistry:
    """Return the tasks that the settings name; there may be none if there are executables."""
    if settings.tasks is not None:
        return load_tasks(settings.tasks)
    if settings.executables is None:
        raise UsageError(
            "no tasks are named: trio-graphile run MODULE:TASKS, such as app.jobs:tasks, "
            f'or tasks = "app.jobs:tasks" in {FILE_NAME}'
        )
    return TaskRegistry()


@contextlib.asynccontextmanager
async def _server(url: str | None, *, embedded: bool) -> AsyncIterator[str | None]:
    """Yield the URL of the database; None if only the PG* variables have its address."""
    if not embedded:
        yield url
        return
    async with embedded_postgres() as server:
        yield server.url
