"""The process of a worker and its supervisor: their messages, and how one notices the end of the other.

The supervisor holds the only writing end of the worker's standard input and never writes to it. When the
supervisor ends, however it does, that input ends, and the worker stops. In the other direction, a pipe
carries lines of JSON.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import attrs
import trio
from cattrs.preconf.orjson import make_converter

from trio_graphile._worker.stop_signals import Stoppable
from trio_graphile._worker.worker import Worker
from trio_graphile.cli._status import Status, status_of

_converter = make_converter()
_REPORT_INTERVAL = 0.5


@attrs.frozen(kw_only=True)
class Report:
    """A report of a worker to its supervisor."""

    worker_id: str
    ready: bool = False
    """Whether the worker takes jobs."""
    status: Status | None = None
    """The status of the worker."""


def read_reports(text: bytes) -> Iterator[Report]:
    """Yield the reports in whole lines."""
    for line in text.splitlines():
        yield _converter.loads(line, Report)


@attrs.frozen
class Supervisor:
    """The supervisor, as a worker's process sees it."""

    _pipe: int = attrs.field()
    """The file descriptor to write to."""
    number: int
    """Which of its workers this is, from 1."""

    def __attrs_post_init__(self) -> None:
        os.set_blocking(self._pipe, False)

    def send(self, report: Report) -> None:
        """Send a report, if the supervisor still exists and listens."""
        with contextlib.suppress(OSError):  # it is gone, or busy; `stop_when_alone` notices
            os.write(self._pipe, _converter.dumps(report) + b"\n")  # short enough to be written in one piece

    async def report_status(self, worker: Worker) -> None:
        """Report the status of the worker twice a second, until cancelled."""
        while True:
            status = status_of("", worker.statistics())
            self.send(Report(worker_id=worker.worker_id, ready=True, status=status))
            await trio.sleep(_REPORT_INTERVAL)

    async def stop_when_alone(self, program: Stoppable) -> None:
        """Stop the program when the supervisor has ended. Runs until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            if not os.read(sys.stdin.fileno(), 1024):
                break
        program.stop()
