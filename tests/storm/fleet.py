"""Worker processes of one contender: started, told to end, and watched until they have."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO

import attrs
import trio

from tests.storm.adapters import Contender
from tests.storm.referee import Departure

ROOT = Path(__file__).parents[2]
_TRIES = 5
START_TIMEOUT = 90.0
"""How many seconds a worker may take to begin, on a machine that is busy with others that begin."""


class StormFailed(Exception):
    """A program of a contender did not do its part, so that nothing can be said of it."""


@attrs.frozen(kw_only=True)
class Signals:
    """How a process is told to end. Durations are seconds."""

    grace: float
    flush: float = 4.0
    """How long after its grace period it may take."""
    slack: float = 2.0
    """And how much longer on a slow machine, before it gets SIGKILL."""
    second_after: float | None = None
    """When it gets SIGTERM once more."""
    killed_after: float | None = None
    """When it gets SIGKILL on purpose."""

    @property
    def granted(self) -> float:
        """For how long handlers may go on."""
        others = (self.second_after, self.killed_after)
        return min([self.grace, *(after for after in others if after is not None)])

    @property
    def kill_after(self) -> float:
        """When it gets SIGKILL in any case."""
        return self.granted + self.flush + self.slack


@attrs.define(eq=False)
class Member:
    """One worker process."""

    name: str
    process: trio.Process
    holder: str
    """Who it is in locks."""
    started_at: float = attrs.field(factory=time.time)
    departure: Departure | None = None


@attrs.define(eq=False)
class Fleet:
    """Starts workers and ends them; knows all that there ever were."""

    contender: Contender
    variables: Mapping[str, str]
    concurrency: int
    signals: Signals
    folder: Path
    """Where what they say on stderr is kept."""
    members: list[Member] = attrs.field(factory=list)
    complaints: list[str] = attrs.field(factory=list)
    """Ends that nobody asked for."""
    _numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.variables, **more}

    async def start(self) -> Member:
        """Start a worker; return once it takes jobs. Tries again, as supervisors do. Raises `StormFailed`."""
        for _ in range(_TRIES - 1):
            try:
                return await self._start()
            except StormFailed as reason:
                self.complaints.append(str(reason))
        return await self._start()

    async def _start(self) -> Member:
        name = f"w{next(self._numbers)}"
        environment = self.environment(
            STORM_WORKER=name,
            STORM_CONCURRENCY=str(self.concurrency),
            STORM_GRACE=f"{self.signals.grace:g}",
            STORM_KILL_AFTER=f"{self.signals.kill_after:g}",
        )
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await _open([*self.contender.command, "worker"], environment, log)
        words: list[str] = []
        try:
            words = await _first_line(process)
        finally:
            if words[:1] != ["ready"]:
                process.kill()
                with trio.move_on_after(10, shield=True):
                    await process.wait()
        if words[:1] != ["ready"]:
            raise StormFailed(f"{name} said {words} instead of ready; {self._end_of_log(name)}")
        member = Member(name, process, words[1] if len(words) > 1 else name)
        self.members.append(member)
        return member

    def note_fall(self, member: Member) -> None:
        """Take down that a worker ended though nobody had told it to."""
        returncode = member.process.returncode
        self.complaints.append(
            f"{member.name} ended by itself with {returncode}; {self._end_of_log(member.name)}"
        )
        now = time.time()
        member.departure = Departure(
            worker=member.name, signalled_at=now, grace=0.0, ended_at=now, by_itself=True
        )

    async def end(self, member: Member, *, under_load: bool = True) -> Departure:
        """Tell a worker to end, wait until it has, and kill it if it does not."""
        process, signals = member.process, self.signals
        if process.poll() is not None:
            self.note_fall(member)
            assert member.departure is not None
            return member.departure
        signalled_at = time.time()
        process.terminate()
        async with trio.open_nursery() as nursery:
            if signals.second_after is not None:
                nursery.start_soon(_send_later, process, signal.SIGTERM, signals.second_after)
            if signals.killed_after is not None:
                nursery.start_soon(_send_later, process, signal.SIGKILL, signals.killed_after)
            with trio.move_on_after(signals.kill_after) as patience:
                await process.wait()
            late = patience.cancelled_caught
            if late:
                process.kill()
                await process.wait()
            nursery.cancel_scope.cancel()
        if late:
            self.complaints.append(f"{member.name} had to be killed; {self._end_of_log(member.name)}")
        member.departure = Departure(
            worker=member.name,
            signalled_at=signalled_at,
            grace=signals.granted,
            ended_at=time.time(),
            was_late=late,
            under_load=under_load,
        )
        if process.stdout is not None:
            await process.stdout.aclose()
        return member.departure

    async def kill_all(self) -> None:
        """End whoever still runs, at once."""
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()
                await member.process.wait()

    def _end_of_log(self, name: str) -> str:
        return end_of_log(self.folder / f"{name}.log")


def end_of_log(log: Path) -> str:
    return f"its log ends with {log.read_text(errors='replace')[-1000:]!r}"


async def _open(command: list[str], environment: dict[str, str], log: IO[bytes]) -> trio.Process:
    return await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment
    )


async def _first_line(process: trio.Process) -> list[str]:
    assert process.stdout is not None
    read = b""
    with trio.move_on_after(START_TIMEOUT):
        while b"\n" not in read:
            chunk = await process.stdout.receive_some()
            if not chunk:
                break
            read += chunk
    return read.decode(errors="replace").partition("\n")[0].split()


async def _send_later(process: trio.Process, number: signal.Signals, after: float) -> None:
    await trio.sleep(after)
    if process.poll() is None:
        process.send_signal(number)


@attrs.define(eq=False)
class Adder:
    """The program that adds jobs."""

    _process: trio.Process
    _log: Path
    _read: bytes = b""

    async def add(self, line: bytes) -> bool:
        """Add the jobs of a line; return whether they are certainly there. Raises `StormFailed`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(line + b"\n")
        while b"\n" not in self._read:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                code = await self._process.wait()
                raise StormFailed(f"the program that adds jobs ended with {code}; {end_of_log(self._log)}")
            self._read += chunk
        said, _, self._read = self._read.partition(b"\n")
        return said.strip() == b"added"


@contextlib.asynccontextmanager
async def open_adder(fleet: Fleet) -> AsyncIterator[Adder]:
    """Have the program for the length of the block."""
    environment = fleet.environment(STORM_WORKER="adder", STORM_CONCURRENCY="1", STORM_GRACE="1")
    log_file = fleet.folder / "adder.log"
    with log_file.open("wb") as log:
        process = await trio.lowlevel.open_process(
            [*fleet.contender.command, "add"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env=environment,
        )
    try:
        yield Adder(process, log_file)
    finally:
        with trio.move_on_after(5, shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            await process.wait()
        if process.poll() is None:
            process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()


async def set_up(fleet: Fleet) -> None:
    """Install the schema. Raises `StormFailed`."""
    environment = fleet.environment(STORM_WORKER="setup", STORM_CONCURRENCY="1", STORM_GRACE="1")
    with trio.fail_after(START_TIMEOUT):
        ended = await trio.run_process(
            [*fleet.contender.command, "setup"],
            env=environment,
            cwd=ROOT,
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )
    if ended.returncode != 0:
        raise StormFailed(f"its schema was not installed: {ended.stderr.decode(errors='replace')[-1000:]}")
