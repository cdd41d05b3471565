"""Tasks that are executable files, in any language: they read `{"payload": ...}` from standard input.

The identifier is the path below the folder, without an extension: `reports/daily.sh` is `reports/daily`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import stat
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from trio_graphile._model.groups import leaves
from trio_graphile._model.jobs import Job
from trio_graphile._tasks.context import JobContext
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.cli._children import how_ended
from trio_graphile.cli._errors import UsageError

logger = logging.getLogger("trio_graphile.cli")

_RUN_TIMEOUT = 4 * 3600.0  # four hours, after which others would take the job
_KILL_AFTER = 0.5
"""How many seconds a process has to end after SIGTERM; less than a worker waits for its handlers."""
_LAST_WORDS = 1.0
"""How many seconds we read its output after its end, if a child of it keeps the output open."""
_LAST_LINES = 20
"""How many of its last lines become the error of the job."""
_PART = re.compile(r"[A-Za-z0-9_-]+")


class ExecutableFailed(Exception):
    """An executable did not end with 0. Its text becomes the `last_error` of the job."""


@attrs.frozen
class Executable:
    """A task that is a file."""

    identifier: str
    path: Path


def with_executables(tasks: TaskRegistry, folder: Path | None) -> TaskRegistry:
    """Return a registry that also has the executable files of a folder. Raises `UsageError`."""
    if folder is None:
        return tasks
    if not folder.is_dir():
        raise UsageError(f"--executables: {folder} is no folder")
    whole = TaskRegistry()
    whole.include(tasks)
    for executable in find_executables(folder):
        if executable.identifier in whole:
            raise UsageError(f"{executable.path}: there is a task {executable.identifier!r} already")
        whole.task(executable.identifier, timeout=_RUN_TIMEOUT)(_handler(executable))
    return whole


def find_executables(folder: Path) -> Iterator[Executable]:
    """Yield the files that their owner may execute, by name; the log names those that cannot be tasks."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        parts = relative.with_suffix("").parts
        if not path.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        if not path.stat().st_mode & stat.S_IXUSR:
            logger.warning("%s is no task: its owner may not execute it (chmod u+x)", path)
        elif not all(map(_PART.fullmatch, parts)):
            logger.warning("%s is no task: names are made of letters, digits, _ and -", path)
        else:
            yield Executable("/".join(parts), path.resolve())


def _handler(executable: Executable) -> Callable[[Any, JobContext], Awaitable[None]]:
    async def handle(payload: Any, context: JobContext) -> None:  # noqa: ARG001  # the job has it as text
        await _execute(executable, context)

    return handle


async def _execute(executable: Executable, context: JobContext) -> None:
    """Run an executable to its end. If cancelled, terminate it, then kill it, with all that it started."""
    said: deque[str] = deque(maxlen=_LAST_LINES)
    run = partial(
        trio.run_process,
        [executable.path],
        stdin=f'{{"payload":{context.job.payload_json}}}'.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        env=_environment(context.job),
        start_new_session=True,  # Ctrl-C is for the worker, which gives it the grace period
        deliver_cancel=_end,
    )
    try:
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(run)
            nursery.start_soon(_read_lines, process.stdout, context.logger.info, None)
            nursery.start_soon(_read_lines, process.stderr, context.logger.error, said)
            await process.wait()
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS
    except ExceptionGroup as group:
        error = next(leaves(group))
        if not isinstance(error, OSError):
            raise
        reason = _missing_interpreter(executable.path) or error.strerror
        raise ExecutableFailed(f"{executable.path.name} cannot be executed: {reason}") from None
    _signal(process, signal.SIGKILL)  # its background processes, too
    if process.returncode:
        raise ExecutableFailed(_describe(executable, process.returncode, said))


def _environment(job: Job) -> dict[str, str]:
    """Return our environment, and the variables that Graphile Worker sets for executables."""
    told: dict[str, object] = {
        "PAYLOAD_FORMAT": "json",
        "TASK_IDENTIFIER": job.task_identifier,
        "JOB_ID": job.id,
        "JOB_KEY": job.key,
        "JOB_ATTEMPTS": job.attempts,
        "JOB_MAX_ATTEMPTS": job.max_attempts,
        "JOB_PRIORITY": job.priority,
        "JOB_RUN_AT": job.run_at.isoformat(),
    }
    environment = {**os.environ, **{f"GRAPHILE_WORKER_{name}": str(value) for name, value in told.items()}}
    if job.key is None:
        del environment["GRAPHILE_WORKER_JOB_KEY"]
    return environment


def _missing_interpreter(path: Path) -> str | None:
    """Return what is wrong with the first line of a script that could not be executed, if anything is."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        first = file.readline(512).decode(errors="replace").removesuffix("\n")
        interpreter = first.removeprefix("#!").lstrip(" \t").partition(" ")[0]
        if first.startswith("#!") and interpreter.endswith("\r"):
            return f"its first line, {first!r}, has the line end of Windows"
        if first.startswith("#!") and not Path(interpreter).exists():
            return f"its interpreter {interpreter} does not exist"
        if not first.startswith(("#!", "\x7f")):
            return "its first line does not name an interpreter, such as #!/bin/sh"
    return None


async def _read_lines(
    stream: trio.abc.ReceiveStream | None, log: Callable[[str], None], kept: deque[str] | None
) -> None:
    rest = b""
    if stream is None:
        return  # cannot happen: both are pipes
    async with stream:
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                _take_line(line, log, kept)
    if rest:
        _take_line(rest, log, kept)


def _take_line(line: bytes, log: Callable[[str], None], kept: deque[str] | None) -> None:
    text = line.decode(errors="replace").rstrip()
    log(text)
    if kept is not None:
        kept.append(text)


async def _end(process: trio.Process) -> None:
    """End a process and its group. Trio calls this in a shield, so it is short."""
    _signal(process, signal.SIGTERM)
    with trio.move_on_after(_KILL_AFTER):
        await process.wait()
    _signal(process, signal.SIGKILL)


def _signal(process: trio.Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _describe(executable: Executable, code: int, said: deque[str]) -> str:
    last = "".join(f"\n{line}" for line in said)
    return f"{executable.path.name} {how_ended(code)}{last}"
