"""Servers and workers in processes of their own: in two network namespaces, with a wire that can be bad."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import attrs
import trio

from tests.environments.bouncer import command, configured
from tests.environments.far_server import PORT
from tests.support.waiting import wait_for_ring
from trio_graphile._model.bell import Bell

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SERVER, CLIENT = "10.231.7.1", "10.231.7.2"
POOLER_PORT = 6432
PATIENCE = 60.0
"""How many seconds a test waits for what such a network makes slow."""
Line = tuple[str, ...]
"""What a worker said: a word, what it is about, and last the time."""


@attrs.define(eq=False)
class Member:
    """A worker in a process of its own."""

    process: trio.Process
    lines: list[Line] = attrs.field(factory=list)
    _rest: str = ""
    _bell: Bell = attrs.field(factory=Bell)

    async def listen(self) -> None:
        """Read what it says, until it ends."""
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.receive_some():
            *lines, self._rest = (self._rest + bytes(chunk).decode()).split("\n")
            self.lines += [tuple(line.split()) for line in lines]
            self._bell.ring()

    def said(self, word: str) -> dict[str, float]:
        """Return when it said a word, by what it is about; the last time counts."""
        return {line[1]: float(line[-1]) for line in self.lines if line[0] == word}

    async def wait_for(self, condition: Callable[[Member], bool], patience: float = PATIENCE) -> None:
        await wait_for_ring(self._bell, lambda: condition(self), patience)

    async def stop(self) -> float:
        """Have it stop; return how long that took."""
        began = trio.current_time()
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            await self.process.wait()
        return trio.current_time() - began


@contextlib.asynccontextmanager
async def running_worker(
    url: str,
    lease: float,
    flush: float = 2.0,
    *,
    behind: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Member]:
    """Run a worker; what still runs when the body ends is killed."""
    process = await trio.lowlevel.open_process(
        [*behind, sys.executable, str(HERE / "far_worker.py"), url, str(lease), str(flush)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
    )
    try:
        async with trio.open_nursery() as nursery:
            member = Member(process)
            nursery.start_soon(member.listen)
            await member.wait_for(lambda member: bool(member.said("ready")))
            yield member
            process.kill()
    finally:
        process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()


def check_no_job_ran_beside_itself(*members: Member) -> None:
    """One run of a held job ends before another worker begins the next."""
    for member in members:
        for other in members:
            for job, began in member.said("began").items():
                ended, began_there = member.said("ended").get(job), other.said("began").get(job)
                if other is not member and began_there is not None and began_there > began:
                    assert ended is not None, f"job {job} was taken from a handler that goes on"
                    assert ended <= began_there


@attrs.frozen
class Lab:
    """The two namespaces."""

    server_url: str
    """The URL of the server by its UNIX socket, which is in no network."""
    _server: str
    _client: str
    _wire: subprocess.Popen[str]

    def far_url(self, url: str, port: int = PORT) -> str:
        """Return the URL by the wire of a database that has one by the socket."""
        return f"postgresql://postgres@{SERVER}:{port}{urlsplit(url).path}?sslmode=disable"

    def set_wire(self, words: str) -> None:
        """Change the wire, as in `wire.py`."""
        assert self._wire.stdin is not None
        self._wire.stdin.write(f"{words}\n")
        self._wire.stdin.flush()

    def worker(
        self,
        url: str,
        lease: float,
        flush: float = 2.0,
        *,
        far: bool,
        port: int = PORT,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> AbstractAsyncContextManager[Member]:
        """Run a worker beside the server, or at the other end of the wire."""
        if not far:
            return running_worker(url, lease, flush, environment=environment)
        behind = inside(self._client)
        return running_worker(self.far_url(url, port), lease, flush, behind=behind, environment=environment)

    @contextlib.contextmanager
    def pooler(self, **settings: object) -> Iterator[int]:
        """Run PgBouncer on the machine of the server, and yield its port."""
        with configured(SERVER, POOLER_PORT, PORT, settings) as configuration:
            process = subprocess.Popen([*inside(self._server), *command(configuration)])
            try:
                yield POOLER_PORT
            finally:
                process.kill()
                process.wait()

    def lose(self, member: Member) -> None:
        """Have the machine of a worker vanish: the server hears nothing of its end."""
        self.set_wire("down")
        member.process.kill()


def inside(namespace: str) -> list[str]:
    """Return the words that run a command in a namespace."""
    return ["nsenter", f"--net=/var/run/netns/{namespace}"]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def open_lab() -> Iterator[Lab]:
    """Make namespaces, a wire and a server. Raises `OSError` or `CalledProcessError` where nobody may."""
    names = [f"tgs{os.getpid()}", f"tgc{os.getpid()}"]
    with contextlib.ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            _ip("-n", name, "link", "set", "lo", "up")
        wire = _opened(stack, sys.executable, str(HERE / "wire.py"), *names)
        for name, address in zip(names, (SERVER, CLIENT), strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
        program = [sys.executable, str(HERE / "far_server.py"), SERVER]
        server = _opened(stack, *inside(names[0]), *program)
        yield Lab(server.url, names[0], names[1], wire.process)


@attrs.frozen
class _Opened:
    process: subprocess.Popen[str]
    url: str


def _opened(stack: contextlib.ExitStack, *command: str, **environment: str) -> _Opened:
    """Start a program that says a line when it is ready, and ends with its input."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    stack.callback(process.wait, PATIENCE)
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    stack.callback(process.stdin.close)
    line = process.stdout.readline().strip()
    if not line:
        raise OSError(f"{command} did not start")
    return _Opened(process, line)


@contextlib.contextmanager
def open_server(environment: Mapping[str, str]) -> Iterator[str]:
    """Run a server with another environment, and yield its URL."""
    with contextlib.ExitStack() as stack:
        yield _opened(stack, sys.executable, str(HERE / "far_server.py"), **environment).url
