"""A disk that is full: the server refuses to write, or crashes. Nothing is lost, and workers go on."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from tests.faults.load import Load, check_nothing_locked
from tests.support.folders import let_others_in
from tests.support.waiting import PATIENCE
from trio_graphile import (
    Client,
    ConnectionLost,
    Database,
    DatabaseOptions,
    JobSpec,
    ShutdownIncomplete,
    ShutdownOptions,
    StatementFailed,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres

SIZE = "160m"
"""Enough for a cluster, and a little more."""
SMALL = {"min_wal_size": "32MB", "max_wal_size": "32MB"}
DISK_FULL = "53100"
STOP = ShutdownOptions(grace_period=1.0, flush_timeout=2.0)
SLACK = 5.0
"""For a slow machine, in seconds."""
RESTART_INTERVAL = 0.1
WRITE_LOG = "select pg_logical_emit_message(true, 'filler', repeat('-', 1000000))"
FULL_FOR = 1.0
"""How long the disk is full, in seconds: long enough for a worker to meet it, not a wait for anything."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Lend a small file system, which only root can make."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "small", str(place)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    let_others_in(place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@attrs.frozen
class Shop:
    """A queue on such a disk, under a load that does not end by itself."""

    disk: Path
    server: PostgresServer
    database: Database
    load: Load
    client: Client

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Take all the room that is left, until the server has refused to write."""
        filler = self.disk / "filler"
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(65_536))
            with trio.fail_after(PATIENCE), pytest.raises(StatementFailed) as refused:
                await self._add_for_ever()
            assert refused.value.sqlstate == DISK_FULL
            yield
        finally:
            filler.unlink()

    async def _add_for_ever(self) -> None:
        while True:
            await self.load.add(self.client, [("instant", secrets.token_hex(50_000), JobSpec())])

    async def crash(self) -> None:
        """Fill up the server's log of changes, which it cannot do without: it ends all sessions."""
        with trio.fail_after(PATIENCE), contextlib.suppress(ConnectionLost):
            while True:
                with contextlib.suppress(StatementFailed):
                    await self.database.execute(WRITE_LOG)

    @contextlib.asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Start the server again if it ends, as whatever keeps it would."""

        async def keep_running() -> None:
            while True:
                await self.server.start()
                await trio.sleep(RESTART_INTERVAL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_running)
            yield
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def shop_on(disk: Path) -> AsyncIterator[Shop]:
    load = Load()
    patient = DatabaseOptions(wait_for_server=PATIENCE)
    async with (
        embedded_postgres(temporary_in=disk, settings=SMALL) as server,
        open_database(server.url, patient) as database,
    ):
        client = Client(database, load.tasks)
        await client.migrate()
        yield Shop(disk, server, database, load, client)
        await check_nothing_locked(database)
    load.check()


def make_worker(database: Database, load: Load) -> Worker:
    return Worker(database, load.tasks, WorkerOptions(concurrency=4, poll_interval=0.1, shutdown=STOP))


@pytest.mark.parametrize("crashes", [False, True], ids=["refuses", "crashes"])
async def test_a_worker_outlasts_a_full_disk(small_disk: Path, *, crashes: bool) -> None:
    async with (
        shop_on(small_disk) as shop,
        open_database(shop.server.url) as own,
        trio.open_nursery() as nursery,
    ):
        worker = make_worker(own, shop.load)
        await nursery.start(worker.run)
        nursery.start_soon(shop.load.keep_adding, shop.client)
        await shop.load.wait_returned(50)
        async with shop.full():
            if crashes:
                await shop.crash()
            await trio.sleep(FULL_FOR)
        async with shop.supervised():
            await shop.load.wait_resumed()
            await shop.load.finish(shop.database)
        worker.stop()


async def test_a_stop_on_a_full_disk_is_bounded(small_disk: Path) -> None:
    """What it could not record runs again, on the attempt that it was on."""
    async with shop_on(small_disk) as shop:
        async with open_database(shop.server.url) as own, trio.open_nursery() as nursery:
            worker = make_worker(own, shop.load)
            ended = trio.Event()

            async def run(*, task_status: trio.TaskStatus[None]) -> None:
                with contextlib.suppress(ShutdownIncomplete):
                    await worker.run(task_status=task_status)
                ended.set()

            await nursery.start(run)
            await shop.load.add(shop.client)
            await shop.load.wait_returned(5)
            async with shop.full():
                began = trio.current_time()
                worker.stop()
                with trio.fail_after(PATIENCE):
                    await ended.wait()
                assert trio.current_time() - began < STOP.grace_period + STOP.flush_timeout + SLACK
        async with open_database(shop.server.url) as own, trio.open_nursery() as nursery:
            worker = make_worker(own, shop.load)
            await nursery.start(worker.run)
            nursery.start_soon(shop.load.keep_adding, shop.client)
            await shop.load.finish(shop.database)
            worker.stop()
