"""An embedded server for code that is not async, such as a session's fixture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from trio_graphile.embedded import PostgresServer, embedded_postgres

_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of a fresh name is made in it
_ENOUGH_MEMORY = 1 << 30  # bytes


def folder_in_memory() -> Path | None:
    """Return a folder whose files are in memory, if the machine has one with room: tests are faster there."""
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH_MEMORY
    return _MEMORY if in_memory else None


@contextmanager
def embedded_postgres_in_thread(**options: Any) -> Iterator[PostgresServer]:
    """Run `embedded_postgres(**options)` in a thread for the length of the block.

    pytest-trio has no async fixtures that outlive a test, so fixtures of a session need this one.
    """
    running: Future[_Running] = Future()

    async def serve() -> None:
        async with embedded_postgres(**options) as server:
            ended = trio.Event()
            running.set_result(_Running(server, ended, trio.lowlevel.current_trio_token()))
            await ended.wait()

    with ThreadPoolExecutor(1, thread_name_prefix="embedded_postgres") as executor:
        serving = executor.submit(trio.run, serve)
        futures: list[Future[Any]] = [running, serving]
        wait(futures, return_when=FIRST_COMPLETED)
        if not running.done():
            serving.result()  # raises why it did not start
        started = running.result()
        try:
            yield started.server
        finally:
            started.token.run_sync_soon(started.ended.set)
            serving.result()


@attrs.frozen
class _Running:
    server: PostgresServer
    ended: trio.Event
    token: trio.lowlevel.TrioToken
