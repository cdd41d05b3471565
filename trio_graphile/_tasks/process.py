"""The lane `process`, seen from the process: how it finds a handler and calls it.

We send only the names of functions: the process imports the handler's module and finds the task there.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import ClassVar

import attrs

from trio_graphile._exceptions import TaskInvalid
from trio_graphile._model.failures import Failure, failure_of, format_trace
from trio_graphile._model.jobs import Job
from trio_graphile._tasks.context import CURRENT_JOB
from trio_graphile._tasks.signature import function_of
from trio_graphile._tasks.task import Task


@attrs.frozen
class Address:
    """The module and the name under which a process finds a task."""

    identifier: str
    module: str
    name: str

    def find(self) -> Task[object]:
        """Return the task. Raises `TaskInvalid` if it is not there."""
        found: object = importlib.import_module(self.module)
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, Task) or found.identifier != self.identifier:
            raise TaskInvalid(
                self.identifier,
                f"a process does not find it as {self.name!r} in the module {self.module!r}: a handler"
                " of the lane 'process' keeps the name under which it is defined",
            )
        return found


def address_of(task: Task[object]) -> Address:
    """Return the address of a task. Raises `TaskInvalid` if a process would not find the task there."""
    function = function_of(task.handler)
    address = Address(task.identifier, function.__module__, function.__qualname__)
    address.find()
    return address


def find_tasks(addresses: Iterable[Address]) -> None:
    """Import what jobs will need. Runs in the other process. Raises what the imports raise."""
    for address in addresses:
        address.find()


def call_in_process(address: Address, job: Job) -> Failure | None:
    """Call the handler of a job; return None if it succeeded. Runs in the other process."""
    Retirement.served += 1
    CURRENT_JOB.set(job)
    failure: Callable[[BaseException], Failure] = failure_of
    try:
        task = address.find()
        failure = task.failure
        return task.failure_of_result(task.call(task.from_json(job.payload_json), None), job.payload_json)
    # The handler may raise anything, and not every exception can be sent. Ctrl-C is ignored in this process,
    # so a KeyboardInterrupt comes from the handler, not from the user.
    except BaseException as error:  # noqa: BLE001, ASYNC103
        return attrs.evolve(failure(error), trace=format_trace(error))  # noqa: ASYNC104  # no Trio runs here
    finally:
        CURRENT_JOB.set(None)


@attrs.frozen
class Retirement:
    """Says after each call of a process whether it has run as many jobs as it may."""

    served: ClassVar[int] = 0
    """How many jobs this process has run."""
    _limit: int | None

    def __call__(self) -> bool:
        return self._limit is not None and self.served >= self._limit


def prepare_process() -> None:
    """Leave the end of this process to the worker: ignore signals, and die with the worker.

    Everything that its handlers start dies with it, except programs that make a session of their own. So
    handlers may start processes by `multiprocessing`, too, which is forbidden to daemonic processes.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a supervisor may send them to all
        signal.signal(number, _go_on)  # not SIG_IGN: programs that handlers start would inherit that
    if hasattr(os, "fork"):
        _watch_over_group()
        multiprocessing.current_process().daemon = False
    threading.Thread(target=_die_with_parent, name="parent watch", daemon=True).start()


def _go_on(_number: int, _frame: object) -> None:
    """Ignore a signal."""


def _watch_over_group() -> None:
    """Begin a process group, and start a process that kills what is left of it when this process ends."""
    os.setpgid(0, 0)
    group = os.getpid()
    hearing, living = os.pipe()
    if os.fork() == 0:
        try:
            _close_all_but(hearing)  # above all the pipes by which the worker sees our end
            os.read(hearing, 1)
        finally:
            os.killpg(group, signal.SIGKILL)  # this one, too
    os.close(hearing)
    os.register_at_fork(after_in_child=partial(os.close, living))
    os.register_at_fork(after_in_child=_heed_signals)


def _close_all_but(kept: int) -> None:
    for number in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):  # the descriptor of /dev/fd itself is closed by now
                os.close(number)


def _heed_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
