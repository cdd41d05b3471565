"""The program as its users run it: in a process of its own, in a folder with a module of tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import attrs
import trio

import trio_graphile
from tests.cli.fork_server import ForkServer

PATIENCE = 60.0
"""A belt: nothing here takes long."""

_SOURCES = Path(trio_graphile.__file__).parents[1]
_COMMAND = (sys.executable, "-m", "trio_graphile")
_READ_AT_START = ("LANG", "LC_", "LD_", "PYTHON", "TZ")
"""How the variables begin that an interpreter reads as it starts."""


@attrs.frozen
class Ended:
    """What became of a process."""

    exit_code: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The only line on standard error."""
        (line,) = self.errors.splitlines()
        return line


@attrs.define(eq=False)
class Running:
    """A process that has not ended yet."""

    _process: trio.Process
    output: str = ""
    """What it wrote so far, errors among it."""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_for(self, text: str) -> None:
        """Read on until the text has appeared."""
        await self.wait_until(lambda output: text in output)

    async def wait_until(self, enough: Callable[[str], bool]) -> None:
        """Read on until the output is what is waited for."""
        with trio.fail_after(PATIENCE):
            while not enough(self.output):
                assert await self._read(), f"it ended without what is waited for:\n{self.output}"

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def wait_ended(self) -> int:
        """Read to the end and return the exit code."""
        with trio.fail_after(PATIENCE):
            while await self._read():
                pass
            return await self._process.wait()

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        chunk = await self._process.stdout.receive_some()
        self.output += chunk.decode()
        return bool(chunk)


@attrs.frozen
class Program:
    """`trio-graphile` in a folder, with a clean environment and what is set here."""

    folder: Path
    environment: Mapping[str, str] = attrs.field(factory=dict)
    command: Sequence[str] = _COMMAND
    forks: ForkServer | None = None
    """What runs commands to their end, where it makes no difference."""

    def with_environment(self, **variables: str) -> Program:
        return attrs.evolve(self, environment={**self.environment, **variables})

    def from_scratch(self) -> Program:
        """The same, with an interpreter that has not imported anything yet."""
        return attrs.evolve(self, forks=None)

    def behind(self, *command: str) -> Program:
        """The same, started by another program, such as nohup."""
        return attrs.evolve(self, command=[*command, *self.command])

    def in_shell(self, redirections: str) -> Program:
        """The same in a shell, with redirections such as `<&-`."""
        return self.behind("sh", "-c", f'exec "$@" {redirections}', "sh")

    def write(self, name: str, source: str) -> None:
        (self.folder / name).write_text(source)

    @staticmethod
    def is_alive(pid: int) -> bool:
        """Whether there is such a process, zombies not counted."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"

    async def run(self, *arguments: str) -> Ended:
        """Run it to its end."""
        forks_do = self.command == _COMMAND and not any(map(_is_read_at_start, self.environment))
        if self.forks is None or not forks_do:
            return await self._run([*self.command, *arguments])
        with trio.fail_after(PATIENCE):
            ended = await self.forks.run(arguments, str(self.folder), self.whole_environment())
        code, output, errors = ended
        return Ended(code, output.decode(), errors.decode())

    async def run_python(self, *arguments: str) -> Ended:
        return await self._run([sys.executable, *arguments])

    async def _run(self, command: Sequence[str]) -> Ended:
        with trio.fail_after(PATIENCE):
            completed = await trio.run_process(
                command,
                cwd=self.folder,
                env=self.whole_environment(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        return Ended(completed.returncode, completed.stdout.decode(), completed.stderr.decode())

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Running]:
        """Start it; what still runs when the body ends is killed."""
        process = await trio.lowlevel.open_process(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.whole_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Running(process)
        finally:
            process.kill()
            with trio.move_on_after(PATIENCE, shield=True):
                await process.wait()

    def whole_environment(self) -> dict[str, str]:
        unwanted = ("DATABASE_URL", "GRAPHILE_WORKER_SCHEMA")
        inherited = {k: v for k, v in os.environ.items() if k not in unwanted and not k.startswith("PG")}
        return {**inherited, "PYTHONPATH": str(_SOURCES), "PYTHONDONTWRITEBYTECODE": "1", **self.environment}


def _is_read_at_start(variable: str) -> bool:
    return variable.startswith(_READ_AT_START)
