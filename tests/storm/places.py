"""Where the storm takes place: a server for the queue, another for the referee, and a pooler."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio

from tests.benchmarks.install import Unavailable
from tests.environments.replicas import FAST, Pair, make_cluster, open_pair
from tests.storm.conditions import Condition
from tests.storm.marks import TABLE
from trio_graphile import DatabaseOptions, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres

_MEMORY = memory if (memory := Path("/dev/shm")).is_dir() else None
_SESSIONS = {"max_connections": "600", "shared_buffers": "64MB"}
_PATIENCE = 20.0


@attrs.frozen(kw_only=True)
class Place:
    """One database of the queue, and one of the referee."""

    servers: Pair | PostgresServer
    """The server of the queue, or two of which one follows the other."""
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
    async def place(self, condition: Condition) -> AsyncIterator[Place]:
        """Lend databases with nothing in them but the referee's table. Raises `Unavailable`."""
        self._made += 1
        name = f"storm_{os.getpid()}_{self._made}"
        marks_url = self.referee.tcp_url_for(name)
        await _execute(self.referee.tcp_url_for(), f"create database {name}")
        await _execute(marks_url, TABLE)
        if condition.upheaval == "failover":
            with tempfile.TemporaryDirectory(prefix="pair-", dir=_MEMORY) as folder:
                cluster, pairs = Path(folder, "cluster"), Path(folder, "pair")
                await make_cluster(cluster)
                settings = {**FAST, **_SESSIONS}
                async with open_pair(cluster, pairs, synchronous=False, settings=settings) as pair:
                    yield Place(servers=pair, url=pair.url, direct_url=pair.url, marks_url=marks_url)
        else:
            async with self._queue(name, pooled=condition.pooled) as (url, direct_url):
                yield Place(servers=self.queue, url=url, direct_url=direct_url, marks_url=marks_url)
        await _execute(self.referee.tcp_url_for(), f"drop database {name} with (force)")

    @contextlib.asynccontextmanager
    async def _queue(self, name: str, *, pooled: bool) -> AsyncIterator[tuple[str, str]]:
        """Yield the URL of a database by the way that workers take, and the direct one."""
        await _execute(self.queue.tcp_url_for(), f"create database {name}")
        url = self.queue.tcp_url_for(name)
        async with _open_pooler(self.queue, name) if pooled else contextlib.nullcontext(url) as way:
            yield way, url
        await _execute(self.queue.tcp_url_for(), f"drop database {name} with (force)")


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
