"""A primary and its standby, real ones, on this machine: killed, promoted, switched over and brought back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from tests.support.folders import let_others_in
from tests.support.waiting import PATIENCE, wait_until_true
from trio_graphile import Client, Database, DatabaseOptions, TaskRegistry, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres

STANDBY = "standby"
"""The name by which a standby is known to its primary."""
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",
    "max_wal_senders": "4",
    "wal_level": "replica",
    "wal_keep_size": "64MB",
    "hot_standby": "on",
    "wal_retrieve_retry_interval": "100ms",
    "wal_receiver_status_interval": "1s",
}


@attrs.frozen
class Pair:
    """Two servers, of which the second follows the first until somebody promotes it."""

    primary: PostgresServer
    standby: PostgresServer

    @property
    def url(self) -> str:
        """The URL of whichever of them takes writes."""
        hosts = f"127.0.0.1:{self.primary.tcp_port},127.0.0.1:{self.standby.tcp_port}"
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    async def wait_replicating(self, *, synchronous: bool) -> None:
        """Wait until the standby follows, and commits wait for it if they are to."""
        state = "sync" if synchronous else "async"
        async with alone(self.primary) as database:
            await wait_until_true(
                database,
                "select exists (select from pg_stat_replication where sync_state = $1::text)",
                state,
            )

    async def wait_caught_up(self) -> None:
        """Wait until the standby has replayed all that the primary has written."""
        async with alone(self.primary) as primary, alone(self.standby) as standby:
            position = await primary.fetch_value("select pg_current_wal_lsn()::text")
            await wait_until_true(standby, "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position)

    async def cut_replication(self) -> None:
        """Have the standby receive nothing more: what is committed from now on, only the primary has."""
        await configure(self.standby, "primary_conninfo", "")
        async with alone(self.standby) as database:
            await wait_until_true(database, "select not exists (select from pg_stat_wal_receiver)")

    async def promote(self) -> None:
        """Make a primary of the standby, one that waits for nobody."""
        async with alone(self.standby) as database:
            assert await database.fetch_value("select pg_promote(true, 20)")
        await configure(self.standby, "synchronous_standby_names", "")


async def become_standby_of(server: PostgresServer, primary: PostgresServer) -> None:
    """Have a server that is stopped follow another one from its next start on."""
    follow(server.directory / "data", primary.tcp_port)
    await server.start()


async def switch_over(pair: Pair) -> Pair:
    """Have the standby take over as planned, and the other one follow it; nothing is lost."""
    await pair.primary.stop()  # which sends all that it has written
    await pair.promote()
    await become_standby_of(pair.primary, pair.standby)
    changed = Pair(pair.standby, pair.primary)
    await changed.wait_replicating(synchronous=False)
    return changed


def follow(data: Path, port: int | None) -> None:
    (data / "standby.signal").touch()
    conninfo = f"host=127.0.0.1 port={port} user=postgres application_name={STANDBY}"
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{conninfo}'\nrecovery_target_timeline = 'latest'\n")


async def make_cluster(place: Path) -> None:
    """Make a server with our schema in a folder, at rest: a copy of that is a standby."""
    let_others_in(place.parent)
    async with (
        embedded_postgres(place, settings=FAST) as server,
        open_database(server.url) as database,
    ):
        await Client(database, TaskRegistry()).migrate()


@asynccontextmanager
async def open_pair(
    cluster: Path, place: Path, *, synchronous: bool, settings: Mapping[str, str] = FAST
) -> AsyncIterator[Pair]:
    """Run a primary, from a copy of a cluster, and its standby; synchronous: commits wait for it."""
    for name in ("first", "second"):
        (place / name).mkdir(parents=True)
        shutil.copytree(cluster / "data", place / name / "data")
    let_others_in(place)
    async with embedded_postgres(place / "first", settings=settings, tcp_port=0) as primary:
        follow(place / "second" / "data", primary.tcp_port)
        async with embedded_postgres(place / "second", settings=settings, tcp_port=0) as standby:
            if synchronous:
                await configure(primary, "synchronous_standby_names", STANDBY)
            pair = Pair(primary, standby)
            await pair.wait_replicating(synchronous=synchronous)
            yield pair


async def configure(server: PostgresServer, name: str, value: str) -> None:
    """Change a setting of a server that runs."""
    async with alone(server) as database:
        await database.execute(f"alter system set {name} = '{value}'")
        await database.execute("select pg_reload_conf()")


@asynccontextmanager
async def alone(server: PostgresServer) -> AsyncIterator[Database]:
    """Open one session on one of the servers, over its socket."""
    async with open_database(server.url, DatabaseOptions(pool_size=1, wait_for_server=PATIENCE)) as database:
        yield database
