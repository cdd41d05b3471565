"""Where the storm takes place: a server for the queue, another for the referee, and a pooler."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import attrs

from tests.benchmarks.install import Unavailable
from tests.environments.bouncer import PROGRAM, open_bouncer
from tests.environments.replicas import FAST, Pair, make_cluster, open_pair
from tests.storm.conditions import Condition
from tests.storm.marks import TABLE
from trio_graphile import DatabaseOptions, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres

_MEMORY = memory if (memory := Path("/dev/shm")).is_dir() else None
_SESSIONS = {"max_connections": "600", "shared_buffers": "64MB"}
_PATIENCE = 20.0
_POOLING = {
    "pool_mode": "transaction",
    "max_client_conn": 1000,
    "default_pool_size": 60,
    "ignore_startup_parameters": "extra_float_digits",
}


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


@contextlib.asynccontextmanager
async def _open_pooler(server: PostgresServer, name: str) -> AsyncIterator[str]:
    """Run PgBouncer in front of a server; yield the database's URL by way of it. Raises `Unavailable`."""
    if PROGRAM is None:
        raise Unavailable("there is no pgbouncer")
    async with open_bouncer(server, **_POOLING) as bouncer:
        yield bouncer.url(name)
