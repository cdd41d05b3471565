"""A program: a way to a server over TCP, with TLS if it is given a certificate. Ends with its standard input.

It is a process of its own, so that it takes none of the steps that the tests count.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from functools import partial

import attrs
import trio

from tests.faults.network import connect_to_server

_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
_LARGEST_CHUNK = 65_536


@attrs.frozen
class Door:
    """Forwards each connection to the server of a URL."""

    server_url: str
    context: ssl.SSLContext | None

    async def forward(self, client: trio.abc.Stream) -> None:
        try:
            await self._forward(client)
        except* (OSError, trio.BrokenResourceError):
            pass  # one of the two is gone

    async def _forward(self, client: trio.abc.Stream) -> None:
        first = await _read_exactly(client, len(_SSL_REQUEST))
        if first == _SSL_REQUEST:
            await client.send_all(b"N" if self.context is None else b"S")
            first = b""
        if first == b"" and self.context is not None:
            client = trio.SSLStream(client, self.context, server_side=True, https_compatible=True)
        server = await connect_to_server(self.server_url)
        async with client, server:
            await server.send_all(first)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_up, client, server)
                await _send_down(server, client)
                nursery.cancel_scope.cancel()


async def _read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    read = b""
    while len(read) < count and (chunk := await stream.receive_some(count - len(read))):
        read += chunk
    return read


async def _send_up(client: trio.abc.ReceiveStream, server: trio.SocketStream) -> None:
    """Forward what a client says, to the end even of one that is gone: what it sent arrives."""
    with contextlib.suppress(trio.BrokenResourceError):
        while chunk := await client.receive_some(_LARGEST_CHUNK):
            await server.send_all(chunk)
    with contextlib.suppress(OSError, trio.BrokenResourceError):
        await server.send_eof()


async def _send_down(server: trio.SocketStream, client: trio.abc.SendStream) -> None:
    is_heard = True
    while chunk := await server.receive_some(_LARGEST_CHUNK):
        if is_heard:
            try:
                await client.send_all(chunk)
            except trio.BrokenResourceError:
                is_heard = False


async def serve(server_url: str, certificate: str = "", key: str = "") -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    sys.stdout.write(f"{listener.socket.getsockname()[1]}\n")
    sys.stdout.flush()
    door = Door(server_url, context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, door.forward, [listener]))
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(partial(serve, *sys.argv[1:]))
