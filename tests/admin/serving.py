"""A server on a real socket, an application that does what its path says, and a client that sends bytes."""

from __future__ import annotations

import contextlib
import functools
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import h11
import trio

from trio_graphile.admin import ServerLimits, serve_admin

BOUND = 10
"""Seconds after which a test gives up."""
HUNDRED_MEGABYTES = 100_000_000


@attrs.frozen
class Call:
    receive: Any
    send: Any


@attrs.define
class Script:
    """An application that does what the path says, and remembers what it was asked."""

    scopes: list[Any] = attrs.field(factory=list)
    bodies: list[bytes] = attrs.field(factory=list)
    disconnected: trio.Event = attrs.field(factory=trio.Event)
    waiting: trio.Event = attrs.field(factory=trio.Event)
    go_on: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        event = await receive()
        self.bodies.append(event["body"])
        await getattr(self, scope["path"].strip("/").replace("-", "_"))(Call(receive, send))

    async def hello(self, call: Call) -> None:
        await answer(call.send, self.scopes[-1]["method"].encode())

    async def echo(self, call: Call) -> None:
        await answer(call.send, self.bodies[-1])

    async def big(self, call: Call) -> None:
        self.waiting.set()
        try:
            await answer(call.send, bytes(HUNDRED_MEGABYTES))
        finally:
            self.disconnected.set()

    async def endless(self, call: Call) -> None:
        await call.send(start())
        while True:
            await call.send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    async def wait(self, call: Call) -> None:
        self.waiting.set()
        await self.go_on.wait()
        await answer(call.send, b"waited")

    async def watch(self, call: Call) -> None:
        self.waiting.set()
        assert (await call.receive())["type"] == "http.disconnect"
        self.disconnected.set()

    async def stream(self, call: Call) -> None:
        await call.send(start((b"content-type", b"text/event-stream")))
        await call.send({"type": "http.response.body", "body": b"event: hello\n\n", "more_body": True})
        self.waiting.set()
        await call.receive()
        self.disconnected.set()
        await call.send({"type": "http.response.body", "body": b"event: bye\n\n"})

    async def stubborn_stream(self, call: Call) -> None:
        await call.send(start((b"content-type", b"text/event-stream; charset=utf-8")))
        self.waiting.set()
        await trio.sleep_forever()

    async def crash(self, call: Call) -> None:  # noqa: ARG002  # called as the others
        raise LookupError("secret")

    async def crash_in_a_group(self, call: Call) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.crash, call)
            await trio.sleep_forever()

    async def crash_late(self, call: Call) -> None:
        await call.send(start())
        await call.send({"type": "http.response.body", "body": b"beginning", "more_body": True})
        raise LookupError("secret")

    async def crash_afterwards(self, call: Call) -> None:
        await answer(call.send, b"all of it")
        raise LookupError("secret")

    async def forget(self, call: Call) -> None:
        """Return without an answer."""

    async def promise_more(self, call: Call) -> None:
        await call.send(start((b"content-length", b"10")))
        await call.send({"type": "http.response.body", "body": b"short"})

    async def bad_header(self, call: Call) -> None:
        await call.send(start((b"x-one", b"1\r\nx-two: 2")))

    async def chunks(self, call: Call) -> None:
        await call.send(start((b"server", b"nobody's business")))
        for piece in (b"one ", b"", b"two"):
            await call.send({"type": "http.response.body", "body": piece, "more_body": True})
        await call.send({"type": "http.response.body"})

    async def nothing(self, call: Call) -> None:
        await call.send({"type": "http.response.start", "status": 204, "headers": []})
        await call.send({"type": "http.response.body"})

    async def give_up_sending(self, call: Call) -> None:
        """Have a time limit of one's own on the answer, and go on as if nothing were."""
        with trio.move_on_after(0.05):
            await self.endless(call)
        try:
            await call.send({"type": "http.response.body", "body": b"the end"})
        finally:
            self.disconnected.set()

    async def two_senders(self, call: Call) -> None:
        async def send(letter: bytes) -> None:
            await call.send({"type": "http.response.body", "body": letter * 5_000_000, "more_body": True})

        await call.send(start())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, b"a")
            nursery.start_soon(send, b"b")
        await call.send({"type": "http.response.body"})

    async def two_watchers(self, call: Call) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch, call)
            nursery.start_soon(self.watch, call)


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


async def answer(send: Any, body: bytes) -> None:
    await send(start((b"content-length", str(len(body)).encode())))
    await send({"type": "http.response.body", "body": body})


@attrs.frozen
class Served:
    urls: tuple[str, ...]
    stopping: trio.Event
    cancel: trio.CancelScope = attrs.field(repr=False)  # noqa: TID251  # cancelled by tests
    ended: trio.Event

    async def connect(self) -> trio.SocketStream:
        if self.urls[0].startswith("unix:"):
            return await trio.open_unix_socket(self.urls[0].removeprefix("unix:"))
        url = urlsplit(self.urls[0])
        assert url.hostname is not None
        assert url.port is not None
        return await trio.open_tcp_stream(url.hostname, url.port)


@contextlib.asynccontextmanager
async def served(
    app: Any,
    listen: str = "127.0.0.1:0",
    *,
    limits: ServerLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Served]:
    """Serve; a test that has not ended the server itself has it cancelled."""
    stopping, ended = trio.Event(), trio.Event()
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[Served]) -> None:
                with trio.CancelScope() as scope:  # noqa: TID251  # cancelled by tests
                    async with trio.open_nursery() as inner:
                        run = functools.partial(
                            serve_admin, app, listen, limits=limits, tls=tls, stopping=stopping
                        )
                        task_status.started(Served(await inner.start(run), stopping, scope, ended))
                ended.set()

            yield await nursery.start(serve)
            nursery.cancel_scope.cancel()


@attrs.frozen
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def error(self) -> str:
        assert self.headers[b"content-type"] == b"application/json"
        document: dict[str, str] = json.loads(self.body)
        assert list(document) == ["error"]
        return document["error"]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the connection ends."""
    return b"".join([bytes(piece) async for piece in stream])


async def read_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    octets = b""
    while end not in octets:
        piece = await stream.receive_some()
        assert piece, f"the connection ended after {octets!r}"
        octets += piece
    return octets


async def exchange(server: Served, octets: bytes) -> bytes:
    """Send bytes; return what comes until the server closes the connection."""
    async with await server.connect() as stream:
        await stream.send_all(octets)
        return await read_all(stream)


def answers(octets: bytes, methods: Iterable[str] = ("GET",)) -> list[Answer]:
    """Read what was answered to requests with these methods, by the rules of HTTP; nothing may be left."""
    client = h11.Connection(h11.CLIENT)
    client.receive_data(octets)
    client.receive_data(b"")
    found = []
    for method in methods:
        client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        client.send(h11.EndOfMessage())
        response = client.next_event()
        while isinstance(response, h11.InformationalResponse):
            response = client.next_event()
        assert isinstance(response, h11.Response), response
        body = b""
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        found.append(Answer(response.status_code, dict(response.headers), body))
        if client.our_state is h11.DONE and client.their_state is h11.DONE:
            client.start_next_cycle()
    assert client.trailing_data[0] == b""
    return found


def get(path: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    """The bytes of a request after which the connection ends, unless a header says otherwise."""
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: localhost",
        *(headers or ("Connection: close",)),
        "",
        "",
    ]
    return "\r\n".join(lines).encode()
