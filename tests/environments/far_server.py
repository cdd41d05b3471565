"""A PostgreSQL in another network namespace, or with another clock: serves until its input ends.

The embedded server listens on 127.0.0.1 alone. So if an address is given, a relay takes connections there.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from trio_graphile.embedded import PostgresServer, embedded_postgres

PORT = 5432
LARGEST = 65_536


async def relay(server: PostgresServer, client: trio.SocketStream) -> None:
    path = f"{server.socket_directory}/.s.PGSQL.{server.tcp_port or 5432}"
    async with await trio.open_unix_socket(path) as session, trio.open_nursery() as nursery:
        nursery.start_soon(pump, client, session)
        await pump(session, client)
        nursery.cancel_scope.cancel()


async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
    try:
        while chunk := await source.receive_some(LARGEST):
            await target.send_all(chunk)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await target.aclose()


async def main(address: str | None = None) -> None:
    async with embedded_postgres() as server, trio.open_nursery() as nursery:
        if address is not None:
            listeners = await trio.open_tcp_listeners(PORT, host=address)
            nursery.start_soon(trio.serve_listeners, partial(relay, server), listeners)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else None)
