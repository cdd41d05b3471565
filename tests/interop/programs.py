"""Programs around the peers: each is told by arguments in JSON what to do, and where the database is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio


@attrs.frozen
class Printed:
    """What a program said."""

    stdout: str
    stderr: str


async def run_program(url: str, command: Sequence[str], folder: Path) -> Printed:
    """Run a program to its end. Raises `CalledProcessError`, with what it printed as a note."""
    try:
        ended = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, cwd=folder, env=_environment(url)
        )
    except subprocess.CalledProcessError as error:
        error.add_note((error.stdout + error.stderr).decode())
        raise
    return Printed(ended.stdout.decode(), ended.stderr.decode())


@asynccontextmanager
async def listening_program(url: str, command: Sequence[str], folder: Path) -> AsyncIterator[trio.Process]:
    """Have a program that runs until its input is closed; the block begins when it says that it listens.

    It may be killed meanwhile. However else it ends early is an error.
    """
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(partial(_run, url, command, folder))
        assert process.stdin is not None
        assert process.stdout is not None
        await _read_until(b"listening\n", process.stdout)
        nursery.start_soon(_read_until, None, process.stdout)  # a full pipe would hold it up
        yield process
        await process.stdin.aclose()


async def _run(
    url: str,
    command: Sequence[str],
    folder: Path,
    task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED,
) -> None:
    ended = await trio.run_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env=_environment(url),
        check=False,
        task_status=task_status,
    )
    if ended.returncode not in {0, -signal.SIGKILL}:
        raise subprocess.CalledProcessError(ended.returncode, command)


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": url}


async def _read_until(line: bytes | None, stream: trio.abc.ReceiveStream) -> None:
    """Read up to a line (to the end if None). What was read is written out: a test that fails shows it."""
    read = b""
    async for chunk in stream:
        read += chunk
        sys.stdout.write(chunk.decode(errors="replace"))
        if line is not None and line in read:
            return
    if line is not None:
        raise RuntimeError(f"the program ended without {line!r}")
