"""A terminal of our own, in which the program runs as its users see it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import attrs
import trio

PATIENCE = 60.0
_START = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal on standard input that of the new session, so that Ctrl-C is a signal in it."""
_CLEARED = re.compile(r"\r?(?:\x1b\[1A\x1b\[2K|\x1b\[2K)+")
"""What is written before a table that stays is drawn again."""


@attrs.define(eq=False)
class Terminal:
    """A program in a terminal, and all that it has written there."""

    _master: int
    process: trio.Process
    written: str = ""
    _is_closed: bool = False

    async def wait_for(self, text: str) -> None:
        await self.wait_until(lambda written: text in written)

    async def wait_until(self, enough: Callable[[str], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not enough(self.written):
                assert await self._read(), f"it ended without what is waited for:\n{self.written}"

    async def wait_ended(self) -> int:
        with trio.fail_after(PATIENCE):
            while await self._read():
                pass
            return await self.process.wait()

    def close(self) -> None:
        """Close the terminal, as its window is closed: the program gets SIGHUP, and can write no more."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._master)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def frames(self) -> list[str]:
        """What the table that stays looked like, time after time, with what was printed above it."""
        return [frame for frame in _CLEARED.split(self.written) if frame.strip()]

    async def _read(self) -> bool:
        await trio.lowlevel.wait_readable(self._master)
        try:
            chunk = os.read(self._master, 65_536)
        except OSError:  # EIO: nobody has it open any more
            return False
        self.written += chunk.decode(errors="replace")
        return bool(chunk)


@contextlib.asynccontextmanager
async def terminal(
    folder: Path,
    environment: Mapping[str, str],
    *arguments: str,
    columns: int = 110,
) -> AsyncIterator[Terminal]:
    """Run the program in a terminal of 40 lines; what still runs when the body ends is killed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", _START, sys.executable, "-m", "trio_graphile", *arguments],
            cwd=folder,
            env={**environment, "TERM": "xterm-256color", "COLUMNS": str(columns)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()
        shown.close()
