"""`run --processes N`: a parent that starts workers, restarts those that crash, and ends with the last.

Workers run in sessions of their own, so only the parent gets the Ctrl-C of a terminal. It passes that on:
once as a stop, twice as a cancellation. A worker that overruns its deadline is killed. If a process dies
without giving back its jobs, the supervisor gives them back at once; other workers would notice its death
only after the `sweep_threshold`.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import trio

from trio_graphile._database.database import open_database
from trio_graphile._database.sweeps import recover_dead_worker
from trio_graphile._exceptions import GraphileError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.counted import counted
from trio_graphile._model.options import ShutdownOptions
from trio_graphile._worker.stop_signals import stop_signals
from trio_graphile.cli._children import how_ended
from trio_graphile.cli._errors import FAILED, SUPERSEDED, WRONG_USAGE
from trio_graphile.cli._output import LinePrinter
from trio_graphile.cli._reload import wait_for_change
from trio_graphile.cli._settings import DatabaseSettings
from trio_graphile.cli._status import Status
from trio_graphile.cli._supervised import Report, read_reports

_LONGEST_DELAY = 30.0
_STEADY_SECONDS = 60.0
"""A worker that has run for this long waits only for the first, short delay when it crashes."""
_LAST_STATEMENTS_DELAY = 0.5
"""How long the statements that a dead process had sent may still run on the server."""
_LAST_OUTPUT_TIMEOUT = 1.0
"""How long we read the output of a process after its end."""
_KILL_TIMEOUT = 3.0
"""How long we wait, after a worker should have ended, before we kill it."""
_RECOVERY_TIMEOUT = 2.0
"""How long we try to give back the jobs of a dead worker while all workers stop."""


@attrs.frozen
class Ended:
    """The end of a worker's process."""

    exit_code: int
    """The exit code; negative for a signal."""
    was_ready: bool
    seconds: float
    """How long the process ran."""

    @property
    def how(self) -> str:
        """Return it in words."""
        return how_ended(self.exit_code)


def may_restart(ended: Ended, *, has_been_ready: bool) -> bool:
    """Whether a process that ended by itself is started again.

    It is not if that would not help: its arguments are wrong, the schema is too new, it is done (`--once`),
    or no process has ever got far enough to take jobs.
    """
    if ended.exit_code in (0, WRONG_USAGE, SUPERSEDED):
        return False
    return ended.was_ready or has_been_ready


def exit_code_of(codes: Sequence[int]) -> int:
    """Return the exit code of the program, given those of the workers: 0 only if all ended well."""
    for code in (SUPERSEDED, WRONG_USAGE):
        if code in codes:
            return code
    return 0 if all(code == 0 for code in codes) else 1


@attrs.define(eq=False)
class _Child:
    """A worker's process."""

    process: trio.Process
    _pipe: int
    """The reading end of its pipe."""
    report: Report | None = None
    """Its last report."""
    _rest: bytes = b""

    def read(self) -> bool:
        """Read its reports; return whether there may be more."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipe, 65_536):
                whole, _, self._rest = (self._rest + chunk).rpartition(b"\n")
                for report in read_reports(whole):
                    self.report = report
            return False
        return True

    async def listen(self) -> None:
        """Read its reports until its pipe ends."""
        while self.read():
            await trio.lowlevel.wait_readable(self._pipe)


@attrs.define(eq=False, kw_only=True)
class Processes:
    """The processes of one supervisor, one worker in each."""

    count: int
    command: Sequence[str]
    environment: Mapping[str, str]
    shutdown: ShutdownOptions
    url: str | None
    """The URL of the database; None if only the PG* variables have its address."""
    database: DatabaseSettings
    """The settings with which the supervisor itself opens the database."""
    printer: LinePrinter
    watched: tuple[Path, ...] | None = None
    """The files beside the sources that restart the workers when they change; None if nothing does."""
    _relays: bool = attrs.field(init=False)
    """Whether the output of workers goes through us, above the table; found out before that takes stdout."""
    _children: dict[int, _Child] = attrs.field(init=False, factory=dict)
    _codes: list[int] = attrs.field(init=False, factory=list)
    """The exit codes of processes that were not restarted."""
    _has_been_ready: bool = attrs.field(init=False, default=False)
    _stopping: trio.Event = attrs.field(init=False, factory=trio.Event)
    _changed: trio.Event = attrs.field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._relays = self.printer.on_terminal

    async def run(self) -> int:
        """Run until all workers have ended for good, and return the exit code."""
        signals = stop_signals()
        with trio.open_signal_receiver(*signals) as received:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, received, signals)
                nursery.start_soon(self._kill_when_overdue)
                nursery.start_soon(self._restart_when_changed)
                async with trio.open_nursery() as workers:
                    for number in range(1, self.count + 1):
                        workers.start_soon(self._keep, number, name=f"worker {number}")
                nursery.cancel_scope.cancel()
        return exit_code_of(self._codes)

    def statuses(self) -> list[Status]:
        """Return the status of each worker that has reported one."""
        return [
            attrs.evolve(child.report.status, name=str(number))
            for number, child in sorted(self._children.items())
            if child.report is not None and child.report.status is not None
        ]

    def stop(self) -> None:
        """Stop all workers; the second time, cancel them."""
        self._stopping.set()
        self._signal_all()

    def _signal_all(self) -> None:
        for child in self._children.values():
            child.process.send_signal(signal.SIGTERM)

    async def _obey(self, received: AsyncIterator[int], signals: Sequence[signal.Signals]) -> None:
        for _ in range(2):
            await anext(received)
            self.stop()
        for number in signals:
            signal.signal(number, signal.SIG_DFL)  # a third signal ends us as usual; the workers notice

    async def _kill_when_overdue(self) -> None:
        await self._stopping.wait()
        await trio.sleep(self.shutdown.grace_period + self.shutdown.flush_timeout + _KILL_TIMEOUT)
        for number, child in self._children.items():
            self._say(f"worker {number} has not ended in time, and is killed")
            child.process.kill()

    async def _restart_when_changed(self) -> None:
        while self.watched is not None:
            await wait_for_change(Path.cwd(), self.watched)
            if self._stopping.is_set():
                return
            self._say("files have changed: the workers are started again")
            self._changed.set()
            self._changed = trio.Event()
            self._signal_all()

    async def _keep(self, number: int) -> None:
        """Run one worker, and restart it as needed."""
        delays = _delays()
        while not self._stopping.is_set():
            changed = self._changed
            ended = await self._run_once(number)
            if self._stopping.is_set():
                self._codes.append(ended.exit_code)
            elif changed.is_set():
                continue
            elif self.watched is not None:
                self._say(f"worker {number} {ended.how}; it is started again when files have changed")
                await self._pause(changed, None)
            elif may_restart(ended, has_been_ready=self._has_been_ready):
                delays = delays if ended.seconds < _STEADY_SECONDS else _delays()
                delay = next(delays)
                self._say(f"worker {number} {ended.how}; it is started again in {delay:.1f} s")
                await self._pause(changed, delay)
            else:
                self._codes.append(ended.exit_code)
                if ended.exit_code != 0:
                    self.stop()  # the other workers would fail for the same reason
                return

    async def _pause(self, changed: trio.Event, delay: float | None) -> None:
        """Wait until the delay is over, files change, or the workers stop."""
        with trio.move_on_after(math.inf if delay is None else delay):
            async with trio.open_nursery() as nursery:

                async def wait_for(event: trio.Event) -> None:
                    await event.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(wait_for, changed)
                nursery.start_soon(wait_for, self._stopping)

    async def _run_once(self, number: int) -> Ended:
        """Run one process to its end; stop it if we are cancelled."""
        started_at = trio.current_time()
        hearing, speaking = os.pipe()
        os.set_blocking(hearing, False)
        try:
            child = self._children[number] = await self._start(number, hearing, speaking)
            try:
                exit_code = await self._outlast(child)
            finally:
                if child.process.returncode is None:
                    child.process.terminate()
                del self._children[number]
        finally:
            os.close(hearing)
        was_ready = child.report is not None and child.report.ready
        self._has_been_ready |= was_ready
        if exit_code == -signal.SIGTERM and child.report is None:
            exit_code = 0  # it was stopped while starting, before it could take jobs
        await self._recover_jobs(number, child, exit_code)
        return Ended(exit_code, was_ready, trio.current_time() - started_at)

    async def _start(self, number: int, hearing: int, speaking: int) -> _Child:
        try:
            process = await trio.lowlevel.open_process(
                [*self.command, "--supervised", str(speaking), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self._relays else None,
                stderr=subprocess.STDOUT if self._relays else None,
                pass_fds=[speaking],
                env=self.environment,
                start_new_session=True,
            )
        finally:
            os.close(speaking)
        if self._stopping.is_set():
            process.send_signal(signal.SIGTERM)
        return _Child(process, hearing)

    async def _outlast(self, child: _Child) -> int:
        """Read what a worker reports until it has ended; return its exit code."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.listen)
            if child.process.stdout is not None:
                nursery.start_soon(_print_lines, child.process.stdout)
            exit_code = await child.process.wait()
            # Its last output is read to its end, unless a child of it keeps the pipe open.
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_OUTPUT_TIMEOUT
        for stream in (child.process.stdin, child.process.stdout):
            if stream is not None:
                await stream.aclose()
        return exit_code

    async def _recover_jobs(self, number: int, child: _Child, exit_code: int) -> None:
        """Give back the jobs of a process that died without doing so itself."""
        if exit_code in (0, WRONG_USAGE, SUPERSEDED) or child.report is None:
            return
        try:
            with trio.fail_after(_RECOVERY_TIMEOUT if self._stopping.is_set() else math.inf):
                recovered = await self._recover(child.report.worker_id)
                # What it sent just before it died may take effect only now: another claim, or a heartbeat.
                await trio.sleep(_LAST_STATEMENTS_DELAY)
                recovered += await self._recover(child.report.worker_id)
        except trio.TooSlowError:
            self._note_unrecovered(number, "the database did not answer in time")
        except GraphileError as error:
            self._note_unrecovered(number, error)
        else:
            if recovered:
                self._say(f"worker {number} left {counted(recovered, 'job')} locked: now given back")

    async def _recover(self, worker_id: str) -> int:
        async with open_database(self.url, self.database) as database:
            return await recover_dead_worker(database, worker_id)

    def _say(self, text: str) -> None:
        self.printer.print_line("supervision", text)

    def _note_unrecovered(self, number: int, reason: object) -> None:
        self._codes.append(FAILED)
        self._say(f"the jobs of worker {number} stay locked until its lease ends: {reason}")


async def _print_lines(stream: trio.abc.ReceiveStream) -> None:
    """Print the output of a worker, in whole lines."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            print(line.decode(errors="replace"))


def _delays() -> Iterator[float]:
    return backoff_delays(first=1.0, cap=_LONGEST_DELAY)


def command_of_a_worker(arguments: Sequence[str]) -> list[str]:
    """Return the command that starts this program again with the same arguments."""
    return [sys.executable, "-m", "trio_graphile", *arguments]
