"""The programs around each kind of worker: one of each per run, and further ones that a test may kill."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.interop import graphile_worker, rust_worker

ROOT = Path(__file__).parents[2]
NODE_PROGRAMS = Path(__file__).parent / "node"
PATIENCE = 40.0
"""How many seconds a program may take for an answer."""

KINDS = ("ours", "node18", "node17", "rust")
NODE_VERSIONS = {"node18": "0.18.0", "node17": "0.17.3"}


class Refused(Exception):
    """A program answered with an error."""


@attrs.define(eq=False)
class Program:
    """A program that runs, and answers on a Unix socket."""

    kind: str
    socket: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        with self.process:  # which waits for it, and closes its pipe
            self.process.kill()

    async def converse(self, url: str, direct_url: str) -> Peer:
        """Begin a conversation about a database. Handlers note what they do by way of `direct_url`."""
        with trio.fail_after(PATIENCE):
            peer = Peer(self.kind, self, await trio.open_unix_socket(self.socket))
        await peer.ask("open", url=url, direct_url=direct_url)
        return peer


@attrs.define(eq=False)
class Peer:
    """One kind of worker, as far as one scenario has to do with it."""

    kind: str
    program: Program
    _stream: trio.SocketStream
    _read: bytes = b""
    _closed: bool = False

    async def ask(self, what: str, **details: Any) -> Any:
        """Tell it to do something, and wait until that is done. Raises `Refused`."""
        request = json.dumps({"do": what, **details}).encode() + b"\n"
        with trio.fail_after(PATIENCE):
            await self._stream.send_all(request)
            answer = json.loads(await self._read_line())
        if "error" in answer:
            raise Refused(f"{self.kind}: {answer['error']}")
        return answer["value"]

    async def _read_line(self) -> bytes:
        while b"\n" not in self._read:
            chunk = await self._stream.receive_some()
            if not chunk:
                raise Refused(f"{self.kind} ended")
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line

    async def add(self, payload: object, identifier: str = "act", **spec: Any) -> int:
        """Add a job, and return its id."""
        job_id: int = await self.ask("add", identifier=identifier, payload=payload, spec=spec)
        return job_id

    async def close(self) -> None:
        """Have it stop its worker and leave the database, unless it was killed."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.program.process.poll() is None:
                await self.ask("close")
        finally:
            await self._stream.aclose()


@attrs.define(eq=False)
class Programs:
    """Starts programs, and keeps one of each kind for all scenarios."""

    _commands: dict[str, Callable[[], list[str]]]
    _folder: Path
    _shared: dict[str, Program] = attrs.field(factory=dict)
    _started: list[Program] = attrs.field(factory=list)

    def shared(self, kind: str) -> Program:
        """Return the one that all scenarios share."""
        program = self._shared.get(kind)
        if program is None or program.process.poll() is not None:
            program = self._shared[kind] = self.start(kind)
        return program

    def start(self, kind: str) -> Program:
        """Start one that may be killed."""
        socket = self._folder / f"{kind}-{len(self._started)}"
        process = subprocess.Popen(
            [*self._commands[kind](), str(socket)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "SIDE": kind},
        )
        program = Program(kind, socket, process)
        self._started.append(program)
        assert process.stdout is not None
        if process.stdout.readline() != b"listening\n":
            raise RuntimeError(f"the program for {kind} ended with {process.wait()}")
        return program

    def kill_all(self) -> None:
        for program in self._started:
            program.kill()


@functools.cache
def reason_to_skip(kind: str) -> str | None:
    """Say why a kind of worker cannot be had here; None if it can."""
    if kind == "rust":
        return rust_worker.reason_to_skip()
    return graphile_worker.reason_to_skip() if kind in NODE_VERSIONS else None


@contextlib.contextmanager
def open_programs() -> Iterator[Programs]:
    """Have programs for as long as the block lasts; each is started when it is first wanted."""
    with contextlib.ExitStack() as stack:
        node: dict[str, Path] = {}

        def node_command(kind: str) -> list[str]:
            if kind not in node:
                version = NODE_VERSIONS[kind]
                programs = stack.enter_context(graphile_worker.programs_for(version, NODE_PROGRAMS))
                node[kind] = programs.folder
            return ["node", str(node[kind] / "serve.mjs")]

        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-"))
        commands = {
            "ours": lambda: [sys.executable, "-m", "tests.conformance.ours"],
            "node18": lambda: node_command("node18"),
            "node17": lambda: node_command("node17"),
            "rust": lambda: [str(rust_worker.built("conformance").program)],
        }
        programs = Programs(commands, Path(folder))
        stack.callback(programs.kill_all)
        yield programs
