"""A worker's process and its supervisor: what they tell each other, and how one notices the other's end.

The supervisor holds the only writing end of the worker's standard input and never writes to it: when it ends,
however it does, the worker's input ends, and the worker stops. The other way goes a pipe with lines of JSON.
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
    """What a worker says to its supervisor."""

    worker_id: str
    ready: bool = False
    """Whether it takes jobs."""
    status: Status | None = None
    """How it is doing."""


def read_reports(text: bytes) -> Iterator[Report]:
    """Yield what is said in whole lines."""
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
        """Tell the supervisor, if it is still there and listens."""
        with contextlib.suppress(OSError):  # it does not listen, or is gone: `stop_when_alone` sees to that
            os.write(self._pipe, _converter.dumps(report) + b"\n")  # so short that it is written whole or not

    async def report_status(self, worker: Worker) -> None:
        """Say twice a second how the worker is doing. To be cancelled when it has ended."""
        while True:
            status = status_of("", worker.statistics())
            self.send(Report(worker_id=worker.worker_id, ready=True, status=status))
            await trio.sleep(_REPORT_INTERVAL)

    async def stop_when_alone(self, program: Stoppable) -> None:
        """Stop the program when the supervisor has ended. To be cancelled when the program has."""
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            if not os.read(sys.stdin.fileno(), 1024):
                break
        program.stop()
