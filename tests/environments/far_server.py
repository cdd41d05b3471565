"""A PostgreSQL in another network namespace, or with another clock: serves until its input ends.

The embedded server listens on 127.0.0.1 alone. So if an address is given, another serves its cluster in its
place, which listens there: nothing stands between its TCP and that of its clients.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import trio

from tests.support.waiting import PATIENCE
from trio_graphile import DatabaseOptions, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres, find_binaries
from trio_graphile.embedded._installation import choose_installation

PORT = 5432
TRUST = "host all all samenet trust\n"


@contextlib.asynccontextmanager
async def listening(server: PostgresServer, address: str) -> AsyncIterator[None]:
    """Serve the cluster of a server in its place, on an address of the network and on its socket."""
    await server.stop()
    home = server.directory
    with (home / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(TRUST)
    installation = await choose_installation(find_binaries(), home)
    settings = {
        "listen_addresses": address,
        "port": PORT,
        "unix_socket_directories": server.socket_directory,
        "fsync": "off",
        "dynamic_shared_memory_type": "mmap",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = installation.identity.command(
        installation.bin_dir / "postgres", "-D", home / "data", *words, options=["--parent", str(os.getpid())]
    )
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  # it forks, and that is all
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        async with open_database(server.url, DatabaseOptions(pool_size=1, wait_for_server=PATIENCE)):
            pass
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with trio.move_on_after(PATIENCE, shield=True):
            await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)


async def main(address: str | None = None) -> None:
    async with embedded_postgres() as server, contextlib.AsyncExitStack() as stack:
        if address is not None:
            await stack.enter_async_context(listening(server, address))
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else None)
