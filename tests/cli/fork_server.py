"""A process that has imported the program, and forks for each command that is to be run.

To import it takes ten times as long as most commands. Each command has a process of its own all the same,
with its own folder, environment and streams. It does not go through the start of the interpreter, so whatever
is about that needs a process from scratch.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import attrs
import trio

import trio_graphile.cli

STREAMS = 3
"""Standard output, standard error, and where the exit code is written."""
_LARGEST_REQUEST = 1 << 20


@attrs.frozen
class ForkServer:
    """The process, as seen by those who want commands to be run."""

    _channel: socket.socket

    async def run(
        self, arguments: Sequence[str], folder: str, environment: Mapping[str, str]
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end; return its exit code, and what it wrote to each stream."""
        pipes = [os.pipe() for _ in range(STREAMS)]
        written = [b""] * STREAMS

        async def read(number: int) -> None:
            async with trio.lowlevel.FdStream(pipes[number][0]) as stream:
                written[number] = b"".join([chunk async for chunk in stream])

        async with trio.open_nursery() as nursery:
            for number in range(STREAMS):
                nursery.start_soon(read, number)
            try:
                request = json.dumps([arguments, folder, dict(environment)]).encode()
                socket.send_fds(self._channel, [request], [writing for _, writing in pipes])
            finally:
                for _, writing in pipes:
                    os.close(writing)
        output, errors, code = written
        assert code, f"the server has ended: {errors.decode()}"
        return int(code), output, errors


@contextlib.contextmanager
def open_fork_server(environment: Mapping[str, str]) -> Iterator[ForkServer]:
    """Run one, in an environment as programs have it, for as long as the body lasts."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # the kind that commands get: Python looks at that once
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield ForkServer(ours)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and whatever did not end in time
            process.communicate()


def serve(channel: socket.socket) -> NoReturn:
    """Fork for each request until there will be no more."""
    for module in pkgutil.iter_modules(trio_graphile.cli.__path__, "trio_graphile.cli."):
        importlib.import_module(module.name)
    gc.freeze()  # so that no process copies the memory only to look what of it is in use
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
    while True:
        request, streams, _, _ = socket.recv_fds(channel, _LARGEST_REQUEST, STREAMS)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            _run(*json.loads(request), *streams)
        for stream in streams:
            os.close(stream)


def _run(arguments: list[str], folder: str, environment: dict[str, str], *streams: int) -> None:
    """Fork once more, for the command itself, and write its exit code to the last stream."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *outputs, code = streams
    command = os.fork()
    if command == 0:
        os.close(code)
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
    for output in outputs:
        os.close(output)
    if command == 0:
        _become(arguments, folder, environment)
    _, status = os.waitpid(command, 0)
    os.write(code, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(arguments: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """Be `python -m trio_graphile` in that folder, and end with it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["", *arguments]
    sys.path[0] = folder
    runpy.run_module("trio_graphile", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
