"""A proxy that understands PostgreSQL's messages, and has any statement fail, hang, or be cut off.

What it does to a statement is drawn at random, from a seed and the number of the session. That the server
executed it or not is certain in each case, and nothing of ours knows about it.
"""

from __future__ import annotations

import contextlib
import enum
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator

import attrs
import trio

from tests.faults.network import RESET_ON_CLOSE, connect_to_server, url_by_way_of
from trio_graphile._model.bell import Bell

_CODES = ("40001", "40P01", "53200", "57014")
"""What a statement fails with: each of them passes."""
_SSL_REQUEST, _CANCEL_REQUEST = 80_877_103, 80_877_102
_SYNC, _QUERY, _FLUSH = b"S", b"Q", b"H"
_ENDS = (_SYNC, _QUERY, _FLUSH, b"X", b"p", b"c", b"d", b"f")
"""What a request ends with; the last of them are requests by themselves."""
_READY, _NOTIFICATION = b"Z", b"A"


class Fate(enum.Enum):
    """What becomes of a statement."""

    PASS = "passes"
    FAIL = "fails"
    HANG = "hangs, and takes effect late"
    HANG_AFTER = "takes effect, and its answer hangs"
    CUT = "is cut off before it took effect"
    CUT_AFTER = "is cut off after it took effect"


@attrs.define(eq=False)
class Injector:
    """Listens on 127.0.0.1, and forwards to a server what it lets pass."""

    _server_url: str
    _seed: str
    _listener: trio.SocketListener
    rate: float = 0.0
    """Of how many statements something becomes, of 1."""
    hang: float = 1.0
    """How long a statement hangs at most, in seconds."""
    next_fate: Fate | None = None
    """What becomes of the next statement, if that is not left to chance."""
    counts: Counter[Fate] = attrs.field(factory=Counter)
    _links: set[_Link] = attrs.field(factory=set)
    _opened: int = 0
    _calm: Bell = attrs.field(factory=Bell)

    @property
    def url(self) -> str:
        """The database's URL by way of this."""
        return url_by_way_of(self._listener.socket.getsockname()[1], self._server_url)

    @property
    def named_counts(self) -> Counter[str]:
        """How often which fate was met, other than to pass."""
        return Counter({f"a statement {fate.value}": count for fate, count in self.counts.items()})

    def calm(self) -> None:
        """Let all pass from now on, also what hangs."""
        self.rate = 0.0
        self._calm.ring()

    def reset(self) -> None:
        """Break every connection that is open."""
        for link in self._links:
            link.reset()

    def choose(self, generator: random.Random) -> Fate:
        """Decide what becomes of a statement."""
        fate = self.next_fate
        if fate is None:
            is_hit = generator.random() < self.rate
            fate = generator.choice([*Fate][1:]) if is_hit else Fate.PASS
        self.next_fate = None
        self.counts[fate] += 1
        return fate

    async def wait_a_while(self, generator: random.Random) -> None:
        with trio.move_on_after(self.hang * generator.uniform(0.1, 1.0)):
            await self._calm.wait()

    async def serve(self, *, task_status: trio.TaskStatus[object]) -> None:
        await trio.serve_listeners(self._forward, [self._listener], task_status=task_status)

    async def _forward(self, client: trio.SocketStream) -> None:
        self._opened += 1
        link = _Link(self, client, random.Random(f"{self._seed} {self._opened}"))
        self._links.add(link)
        try:
            await link.run(self._server_url)
        finally:
            self._links.discard(link)


@attrs.define(eq=False)
class _Reader:
    """Takes messages from a stream, each with its first byte and its length."""

    _stream: trio.SocketStream
    _buffer: bytearray = attrs.field(factory=bytearray)

    async def read(self, count: int) -> bytes:
        """Return so many bytes. Raises `EndOfChannel` if there are not as many any more."""
        while len(self._buffer) < count:
            chunk = await self._stream.receive_some(65_536)
            if not chunk:
                raise trio.EndOfChannel
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def message(self) -> bytes:
        head = await self.read(5)
        return head + await self.read(_length(head[1:]) - 4)

    async def request(self) -> bytes:
        """Return messages to which the server answers together."""
        request = b""
        while True:
            message = await self.message()
            request += message
            if message[:1] in _ENDS:
                return request


@attrs.define(eq=False)
class _Link:
    """One session's connection, and ours to the server for it."""

    _injector: Injector
    _client: trio.SocketStream
    _generator: random.Random
    _fate: Fate = Fate.PASS
    """What becomes of the answer that is awaited."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # cancelled, not shielded

    async def run(self, server_url: str) -> None:
        """Forward until both sides are done."""
        with self._client.socket, self._scope:
            try:
                await self._forward(server_url)
            except* (OSError, trio.BrokenResourceError, trio.EndOfChannel):
                pass  # one of the two is gone

    async def _forward(self, server_url: str) -> None:
        reader = _Reader(self._client)
        first = await self._first_message(reader)
        server = await connect_to_server(server_url)
        with server.socket:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_up, first, reader, server)
                await self._send_down(_Reader(server))
                nursery.cancel_scope.cancel()

    def reset(self) -> None:
        """Break it as a router would that forgot it."""
        with contextlib.suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._scope.cancel()

    async def _first_message(self, reader: _Reader) -> bytes:
        while True:
            head = await reader.read(8)
            if _length(head[4:]) != _SSL_REQUEST:
                return head + await reader.read(_length(head) - 8)
            await self._client.send_all(b"N")

    async def _send_up(self, first: bytes, reader: _Reader, server: trio.SocketStream) -> None:
        """Forward what the client says, to the end even of one that is gone: what it sent arrives."""
        try:
            await self._send_request(first, server)
            while True:
                await self._send_request(await reader.request(), server)
        except (OSError, trio.BrokenResourceError, trio.EndOfChannel):
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                await server.send_eof()

    async def _send_request(self, request: bytes, server: trio.SocketStream) -> None:
        fate = self._fate_of(request)
        match fate:
            case Fate.CUT:
                self.reset()
                await trio.lowlevel.checkpoint()
            case Fate.HANG:
                await self._injector.wait_a_while(self._generator)
            case Fate.FAIL:
                request = _failure(self._generator.choice(_CODES))
            case _:
                self._fate = fate
        await server.send_all(request)

    def _fate_of(self, request: bytes) -> Fate:
        """Choose what becomes of a request; nothing of what belongs to one, or is none."""
        is_statement = request[-5:-4] == _SYNC or request[:1] == _QUERY
        is_start = request[:1] == b"\0" and _length(request[4:8]) != _CANCEL_REQUEST
        if not (is_statement or is_start):
            return Fate.PASS
        fate = self._injector.choose(self._generator)
        return Fate.CUT if is_start and fate is Fate.FAIL else fate

    async def _send_down(self, reader: _Reader) -> None:
        is_heard = True
        while True:
            message = await reader.message()
            if self._fate is Fate.HANG_AFTER and message[:1] != _NOTIFICATION:
                await self._injector.wait_a_while(self._generator)
                self._fate = Fate.PASS
            if self._fate is Fate.CUT_AFTER:
                if message[:1] == _READY:
                    self.reset()
                    await trio.lowlevel.checkpoint()
                continue
            if is_heard:
                try:
                    await self._client.send_all(message)
                except trio.BrokenResourceError:
                    is_heard = False  # the server goes on to its end all the same


def _length(four_bytes: bytes) -> int:
    length: int = struct.unpack("!I", four_bytes[:4])[0]
    return length


def _failure(code: str) -> bytes:
    """Return a statement that fails, to be sent instead: so the server itself knows what became of it."""
    sql = f"do $$ begin raise exception 'the injector has it fail' using errcode = '{code}'; end $$"
    body = sql.encode() + b"\0"
    return b"Q" + struct.pack("!I", len(body) + 4) + body


@contextlib.asynccontextmanager
async def open_injector(server_url: str, seed: str) -> AsyncIterator[Injector]:
    """Run an injector in front of a database for as long as the body lasts."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        injector = Injector(server_url, seed, listener)
        await nursery.start(injector.serve)
        try:
            yield injector
        finally:
            nursery.cancel_scope.cancel()
