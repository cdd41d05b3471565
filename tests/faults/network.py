"""A network that breaks on demand: a proxy between a worker and its PostgreSQL."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, quote, urlsplit

import attrs
import trio

_LARGEST_CHUNK = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@attrs.define(eq=False)
class Gate:
    """What passes waits here while it is closed."""

    _on_held: Callable[[], None]
    _opened: trio.Event = attrs.field(factory=trio.Event)

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened = trio.Event()

    async def pass_through(self) -> None:
        while not self._opened.is_set():
            self._on_held()
            await self._opened.wait()


@attrs.define(eq=False)
class Link:
    """One client's connection, and ours to the server for it."""

    _client: trio.SocketStream
    _server_url: str
    gate: Gate
    _delay: float
    """How long everything takes, one way, in seconds."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # cancelled, not shielded

    async def run(self) -> None:
        """Forward until both sides are done; to the end even if one is gone, since what it sent arrives."""
        with self._client.socket, self._scope, contextlib.suppress(OSError):
            await self.gate.pass_through()
            server = await connect_to_server(self._server_url)
            with server.socket:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, server, self._client)
                    nursery.start_soon(self._pump, self._client, server)

    def reset(self) -> None:
        """Break it as a router would that forgot it: the client gets an RST instead of an end."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._scope.cancel()

    async def _pump(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        sent, arriving = trio.open_memory_channel[tuple[float, bytes]](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, arriving, target)
            while chunk := await _receive(source):
                sent.send_nowait((trio.current_time() + self._delay, chunk))
            sent.close()

    async def _deliver(
        self, arriving: trio.MemoryReceiveChannel[tuple[float, bytes]], target: trio.SocketStream
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for due_at, chunk in arriving:
                await trio.sleep_until(due_at)
                await self.gate.pass_through()
                await target.send_all(chunk)
            await self.gate.pass_through()
            await target.send_eof()


async def _receive(source: trio.SocketStream) -> bytes:
    try:
        return bytes(await source.receive_some(_LARGEST_CHUNK))
    except trio.BrokenResourceError:
        return b""  # an RST; the other side gets an end


@attrs.define(eq=False)
class Proxy:
    """Listens on 127.0.0.1 and forwards to a server, as long as it is not told to do worse."""

    _server_url: str
    _nursery: trio.Nursery
    _listener: trio.SocketListener
    round_trip: float = 0.0
    """How long everything takes to the server and back, in seconds; counts for new connections."""
    holding: trio.Event = attrs.field(factory=trio.Event)
    """Set as soon as something waits that a fault keeps from passing."""
    accepted: int = 0
    """How many connections were made."""
    _links: set[Link] = attrs.field(factory=set)
    _new_links_pass: bool = True
    _accepting: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # as a link's
    _port: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._port = self._listener.socket.getsockname()[1]

    @property
    def url(self) -> str:
        """The database's URL by way of this proxy."""
        return url_by_way_of(self._port, self._server_url, "?sslmode=disable")

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept connections until `refuse`."""
        task_status.started()
        with self._accepting:
            while True:
                client = await self._listener.accept()
                link = Link(client, self._server_url, Gate(self._hold), self.round_trip / 2)
                self.accepted += 1
                if self._new_links_pass:
                    link.gate.open()
                self._links.add(link)
                self._nursery.start_soon(self._run_link, link)

    def _hold(self) -> None:
        self.holding.set()

    async def _run_link(self, link: Link) -> None:
        await link.run()
        self._links.discard(link)

    def reset(self) -> None:
        """Break every connection that is open."""
        for link in self._links:
            link.reset()

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._accepting.cancel()
        self._listener.socket.close()

    def swallow(self) -> None:
        """Be a black hole: connections are made and stay, nothing passes, and nobody is told."""
        self.freeze()
        self._new_links_pass = False

    def freeze(self) -> None:
        """Let nothing pass on the connections that are open, but all on new ones."""
        self.holding = trio.Event()
        for link in self._links:
            link.gate.close()
        self._new_links_pass = True

    async def heal(self) -> None:
        """Forward again. What was sent meanwhile arrives now, even from a client that is gone."""
        self._new_links_pass = True
        for link in self._links:
            link.gate.open()
        if self._accepting.cancel_called:
            [self._listener] = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
            self._accepting = trio.CancelScope()  # noqa: TID251  # as above
            await self._nursery.start(self.serve)


def url_by_way_of(port: int, server_url: str, parameters: str = "") -> str:
    """Return a database's URL by way of something on a port of 127.0.0.1."""
    parts = urlsplit(server_url)
    user = quote(parts.username or "postgres")
    password = f":{quote(parts.password)}" if parts.password else ""
    return f"postgresql://{user}{password}@127.0.0.1:{port}{parts.path}{parameters}"


async def connect_to_server(url: str) -> trio.SocketStream:
    """Open a connection to the server of a URL, over TCP or over its Unix socket."""
    parts = urlsplit(url)
    if parts.hostname:
        return await trio.open_tcp_stream(parts.hostname, parts.port or 5432)
    query = parse_qs(parts.query)
    [folder], [port] = query["host"], query.get("port", ["5432"])
    return await trio.open_unix_socket(f"{folder}/.s.PGSQL.{port}")


@contextlib.asynccontextmanager
async def open_proxy(server_url: str) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a database for as long as the body lasts."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        proxy = Proxy(server_url, nursery, listener)
        try:
            await nursery.start(proxy.serve)
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
            proxy.refuse()
