"""What one client may cost: each limit, struck."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.admin.serving import Answer, Script, answers, exchange, get, read_all, read_until, served
from trio_graphile import OptionInvalid
from trio_graphile.admin import ServerLimits
from trio_graphile.admin._headers import SECURITY_HEADERS
from trio_graphile.admin._server.connections import Service, serve_connection
from trio_graphile.admin._server.requests import Peer

SHORT = 0.05


async def one_answer(octets: bytes, limits: ServerLimits, method: str = "GET") -> Answer:
    async with served(Script(), limits=limits) as server:
        (found,) = answers(await exchange(server, octets), [method])
    return found


def assert_refused(found: Answer, status: int) -> None:
    assert found.status == status
    assert found.error
    assert found.headers[b"connection"] == b"close"
    assert dict(SECURITY_HEADERS).items() <= found.headers.items()


# --- sizes ---

SMALL = ServerLimits(head_size=1024, target_size=100, body_size=10)


@pytest.mark.parametrize("rest", [b"\r\n\r\n", b""], ids=["whole", "without an end"])
async def test_a_head_that_is_too_large(rest: bytes) -> None:
    assert_refused(await one_answer(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 1024 + rest, SMALL), 431)


async def test_a_head_just_within_its_limit() -> None:
    fixed = get("/hello", "A: ", "Connection: close")
    octets = get("/hello", "A: " + "b" * (1024 - len(fixed)), "Connection: close")
    assert len(octets) == 1024
    assert (await one_answer(octets, SMALL)).status == 200


@pytest.mark.parametrize(
    "octets", [get("/hello?" + "a" * 100), b"GET /" + b"a" * 2048], ids=["whole", "without an end"]
)
async def test_an_address_that_is_too_long(octets: bytes) -> None:
    assert_refused(await one_answer(octets, SMALL), 414)


def posted(*headers: str, body: bytes) -> bytes:
    return get("/echo", *headers, "Connection: close", method="POST") + body


async def test_a_body_just_within_its_limit() -> None:
    assert (await one_answer(posted("Content-Length: 10", body=b"a" * 10), SMALL)).body == b"a" * 10


@pytest.mark.parametrize(
    "octets",
    [
        posted("Content-Length: 11", body=b""),
        posted("Content-Length: 11", body=b"a" * 11),
        posted("Content-Length: 1000000000000", "Expect: 100-continue", body=b""),
        posted("Transfer-Encoding: chunked", body=b"6\r\naaaaaa\r\n5\r\naaaaa\r\n"),
        posted("Transfer-Encoding: chunked", body=b"ffffffff\r\n" + b"a" * 11),
    ],
    ids=["announced", "sent", "asked for", "chunked", "one chunk"],
)
async def test_a_body_that_is_too_large_never_reaches_the_application(octets: bytes) -> None:
    app = Script()
    async with served(app, limits=SMALL) as server:
        (found,) = answers(await exchange(server, octets))
    assert_refused(found, 413)
    assert app.scopes == []


async def test_the_answer_to_head_has_no_body_when_it_is_refused_either() -> None:
    found = await one_answer(get("/hello?" + "a" * 100, method="HEAD"), SMALL, "HEAD")
    assert (found.status, found.body) == (414, b"")


async def test_a_client_that_still_sends_can_read_why_it_is_refused() -> None:
    async with served(Script(), limits=SMALL) as server, await server.connect() as stream:
        await stream.send_all(posted("Content-Length: 3000000", body=bytes(3_000_000)))
        (found,) = answers(await read_all(stream))
    assert_refused(found, 413)


# --- times ---


@pytest.mark.parametrize("octets", [b"G", b"GET /hello HTTP/1.1\r\nHost: a\r\n"], ids=["line", "headers"])
async def test_half_a_head(octets: bytes) -> None:
    assert_refused(await one_answer(octets, ServerLimits(head_timeout=SHORT)), 408)


@pytest.mark.parametrize(
    "octets",
    [
        posted("Content-Length: 5", body=b"half"),
        posted("Transfer-Encoding: chunked", body=b"4\r\nhalf\r\n"),
        posted("Content-Length: 5", "Expect: 100-continue", body=b""),
    ],
    ids=["length", "chunked", "asked for"],
)
async def test_half_a_body(octets: bytes) -> None:
    app = Script()
    async with served(app, limits=ServerLimits(body_timeout=SHORT)) as server:
        (found,) = answers(await exchange(server, octets), ["POST"])
    assert_refused(found, 408)
    assert app.scopes == []


async def test_an_idle_connection() -> None:
    limits = ServerLimits(idle_timeout=SHORT)
    async with served(Script(), limits=limits) as server:
        assert await exchange(server, b"") == b""
        (found,) = answers(await exchange(server, get("/hello", "A: b")))
    assert found.status == 200


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    app = Script()
    limits = ServerLimits(send_timeout=SHORT, connections=1)
    async with served(app, limits=limits) as server, await server.connect() as stream:
        await stream.send_all(get("/big", "A: b") + get("/wait", "A: b"))
        await app.disconnected.wait()
        # Its place is free again, and what it asked for next is not done.
        assert answers(await exchange(server, get("/hello")))[0].status == 200
    assert "/wait" not in [scope["path"] for scope in app.scopes]


async def test_a_client_beyond_the_last_place_waits_for_one() -> None:
    app = Script()
    async with served(app, limits=ServerLimits(connections=2)) as server:
        first, second, third = [await server.connect() for _ in range(3)]
        async with first, second, third:
            await first.send_all(get("/hello", "A: b"))
            await read_until(first, b"GET")
            await second.send_all(get("/wait"))
            await app.waiting.wait()
            await third.send_all(get("/hello"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(app.scopes) == 2
            await first.aclose()
            assert answers(await read_all(third))[0].status == 200
            app.go_on.set()
            assert answers(await read_all(second))[0].body == b"waited"


# --- the same on a clock of our own: how long exactly ---


class Conversation:
    """A connection through memory."""

    def __init__(self, app: Any, **limits: float) -> None:
        self.client, self._server = trio.testing.memory_stream_pair()
        self.stopping = trio.Event()
        self._service = Service(app=app, limits=ServerLimits(**limits), stopping=self.stopping)  # type: ignore[arg-type]
        self.ended_at = math.nan

    async def serve(self) -> None:
        await serve_connection(self._server, Peer(), self._service)
        self.ended_at = trio.current_time()

    async def read(self) -> None:
        """Read as a client does that closes what the server has closed: lingering has an end then."""
        async with self.client:
            await read_all(self.client)


@pytest.mark.parametrize(
    ("octets", "limit", "seconds"),
    [
        (b"", "idle_timeout", 7),
        (get("/hello", "A: b"), "idle_timeout", 7),
        (b"GET", "head_timeout", 3),
        (posted("Content-Length: 5", body=b"half"), "body_timeout", 5),
    ],
    ids=["nothing", "no second request", "half a head", "half a body"],
)
async def test_the_limit_is_what_was_asked_for(
    octets: bytes, limit: str, seconds: int, autojump_clock: trio.testing.MockClock
) -> None:
    started_at = trio.current_time()
    conversation = Conversation(Script(), **{limit: seconds})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.serve)
        nursery.start_soon(conversation.read)
        if octets:
            await conversation.client.send_all(octets)
    assert conversation.ended_at - started_at == pytest.approx(seconds)


async def test_a_slow_head_is_measured_from_its_first_byte(autojump_clock: trio.testing.MockClock) -> None:
    conversation = Conversation(Script(), head_timeout=3, idle_timeout=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.serve)
        nursery.start_soon(conversation.read)
        await trio.sleep(50)
        started_at = trio.current_time()
        for byte in get("/hello"):
            if trio.current_time() < started_at + 3:
                await conversation.client.send_all(bytes([byte]))
                await trio.sleep(1)
    assert conversation.ended_at - started_at == pytest.approx(3)


@pytest.mark.parametrize("stop", [True, False])
async def test_lingering_over_a_refusal_ends(*, stop: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Soon if the client does not end it, and at once with a stop."""
    conversation = Conversation(Script())
    started_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.serve)
        await conversation.client.send_all(b"GET\r\n\r\n")
        await conversation.client.receive_some()
        if stop:
            conversation.stopping.set()
    assert conversation.ended_at - started_at == (0 if stop else pytest.approx(2))


class Clinging(trio.abc.SendStream):
    """The sending side of a stream that is not closed before it is forced."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            await trio.aclose_forcefully(self._stream)


async def test_a_client_that_does_not_let_go_is_left(autojump_clock: trio.testing.MockClock) -> None:
    client, server = trio.testing.memory_stream_pair()
    started_at = trio.current_time()
    service = Service(app=Script(), limits=ServerLimits(), stopping=trio.Event())
    async with client:
        await client.send_all(get("/hello"))
        stream = trio.StapledStream(Clinging(server.send_stream), server.receive_stream)
        await serve_connection(stream, Peer(), service)
        assert trio.current_time() - started_at == pytest.approx(1)


async def test_a_slow_reader_that_reads_is_no_stalled_one(autojump_clock: trio.testing.MockClock) -> None:
    """Each piece has the time for a piece; the whole may take long."""
    client, server = trio.testing.lockstep_stream_pair()
    service = Service(app=Slow(), limits=ServerLimits(send_timeout=10), stopping=trio.Event())
    received = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, server, Peer(), service)
        await client.send_all(get("/"))
        while piece := await client.receive_some(65_536):
            received += len(piece)
            await trio.sleep(4)
    assert received > Slow.size
    assert trio.current_time() > 40


class Slow:
    size = 1_000_000

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  # ASGI's names
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(self.size)})


# --- the options ---


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(ServerLimits)])
@pytest.mark.parametrize("value", [-1, "1", True, math.nan, 10_000_000_000])
def test_a_limit_that_can_never_work_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(OptionInvalid) as refused:
        ServerLimits(**{field: value})  # type: ignore[arg-type]
    assert refused.value.option == field


def test_milliseconds_are_taken_for_what_they_are() -> None:
    with pytest.raises(OptionInvalid, match="head_timeout: 10000 seconds are over the maximum of 3600"):
        ServerLimits(head_timeout=10_000)
