"""Where the storm takes place: a server for the queue, another for the referee, and a pooler."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import trio

from tests.benchmarks.install import Unavailable
from tests.storm.conditions import Upheaval
from tests.storm.marks import TABLE
from trio_graphile import DatabaseOptions, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres

_MEMORY = memory if (memory := Path("/dev/shm")).is_dir() else None
_SESSIONS = {"max_connections": "600", "shared_buffers": "64MB"}
_FROZEN = 1.5
"""How long a server stands still: less than a worker may take to write its last outcomes."""
_BETWEEN = 3.0
"""How long it is left in peace."""
_PATIENCE = 20.0


@attrs.frozen(kw_only=True)
class Place:
    """One database of the queue, and one of the referee."""

    server: PostgresServer
    url: str
    """By which workers reach the queue."""
    direct_url: str
    """The same, past the pooler."""
    marks_url: str

    @property
    def is_pooled(self) -> bool:
        return self.url != self.direct_url


@attrs.define
class Servers:
    """The servers, which all storms of a run share."""

    queue: PostgresServer
    referee: PostgresServer
    _made: int = 0

    @contextlib.asynccontextmanager
    async def place(self, *, pooled: bool = False) -> AsyncIterator[Place]:
        """Lend databases with nothing in them but the referee's table. Raises `Unavailable`."""
        self._made += 1
        name = f"storm_{os.getpid()}_{self._made}"
        for server in (self.queue, self.referee):
            await _execute(server.tcp_url_for(), f"create database {name}")
        url, marks_url = self.queue.tcp_url_for(name), self.referee.tcp_url_for(name)
        await _execute(marks_url, TABLE)
        async with _open_pooler(self.queue, name) if pooled else contextlib.nullcontext(url) as way:
            yield Place(server=self.queue, url=way, direct_url=url, marks_url=marks_url)
        for server in (self.queue, self.referee):
            await _execute(server.tcp_url_for(), f"drop database {name} with (force)")


@contextlib.asynccontextmanager
async def open_servers() -> AsyncIterator[Servers]:
    """Run both servers for the length of the block."""
    async with (
        embedded_postgres(tcp_port=0, settings=_SESSIONS, temporary_in=_MEMORY) as queue,
        embedded_postgres(tcp_port=0, settings=_SESSIONS, temporary_in=_MEMORY) as referee,
    ):
        yield Servers(queue, referee)


async def _execute(url: str, statement: str) -> None:
    async with open_database(url, DatabaseOptions(pool_size=1, wait_for_server=_PATIENCE)) as database:
        await database.execute(statement)


# --- what is done to the server -------------------------------------------------------------------


async def disturb(server: PostgresServer, upheaval: Upheaval) -> None:
    """Do it again and again, until cancelled; then the server is as before."""
    while True:
        await trio.sleep(_BETWEEN)
        if upheaval == "frozen":
            await _freeze(server)
        elif upheaval == "restarted":
            with trio.move_on_after(2 * _PATIENCE, shield=True):
                await server.restart()


async def _freeze(server: PostgresServer) -> None:
    """Have all processes of a server stand still for a while."""
    assert server.process_id is not None
    stopped = [server.process_id]
    os.kill(server.process_id, signal.SIGSTOP)  # it begins no others now
    try:
        for process in _children_of(server.process_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
                stopped.append(process)
        await trio.sleep(_FROZEN)
    finally:
        for process in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _children_of(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # What follows the name, which may hold anything: see `man proc_pid_stat`.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


# --- the pooler -----------------------------------------------------------------------------------

_POOLER = """
[databases]
* = host=127.0.0.1 port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 60
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
pidfile =
"""


@contextlib.asynccontextmanager
async def _open_pooler(server: PostgresServer, name: str) -> AsyncIterator[str]:
    """Run PgBouncer in front of a server; yield the database's URL by way of it. Raises `Unavailable`."""
    program = shutil.which("pgbouncer")
    if program is None:
        raise Unavailable("there is no pgbouncer")
    with tempfile.TemporaryDirectory(prefix="pooler-") as folder:
        port = _free_port()
        configuration = _configure(Path(folder), port, server)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to be root
        process = await trio.lowlevel.open_process(
            [program, "-q", *user, str(configuration)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with trio.fail_after(_PATIENCE):
                while not await _accepts(port):  # noqa: ASYNC110  # it does not say when it does
                    await trio.sleep(0.05)
            yield f"postgresql://postgres@127.0.0.1:{port}/{name}"
        finally:
            process.kill()
            with trio.move_on_after(_PATIENCE, shield=True):
                await process.wait()


def _configure(folder: Path, port: int, server: PostgresServer) -> Path:
    folder.chmod(0o777)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(_POOLER.format(port=port, server_port=server.tcp_port, folder=folder))
    configuration.chmod(0o644)
    return configuration


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _accepts(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True
