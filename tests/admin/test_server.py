"""What clients get: bytes over real sockets."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from tests.admin.serving import Answer, Call, Script, answers, exchange, get, read_all, read_until, served
from trio_graphile.admin._headers import SECURITY_HEADERS


async def one_answer(octets: bytes, method: str = "GET") -> Answer:
    async with served(Script()) as server:
        (found,) = answers(await exchange(server, octets), [method])
    return found


async def test_an_answer_of_the_application() -> None:
    found = await one_answer(get("/hello"))
    assert (found.status, found.body) == (200, b"GET")
    assert found.headers[b"connection"] == b"close"
    assert found.headers[b"date"].endswith(b"GMT")


async def test_the_program_that_serves_is_not_named() -> None:
    found = await one_answer(get("/chunks"))
    assert b"server" not in found.headers
    assert (found.headers[b"transfer-encoding"], found.body) == (b"chunked", b"one two")


async def test_what_the_application_is_told() -> None:
    app = Script()
    async with served(app) as server:
        await exchange(server, get("/%68ello?a=%20b", "X-Some: Thing", "Connection: close"))
        (scope,) = app.scopes
        assert (scope["type"], scope["http_version"], scope["method"]) == ("http", "1.1", "GET")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/hello", b"/%68ello", b"a=%20b")
        assert (scope["scheme"], scope["root_path"]) == ("http", "")
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.3"}
        assert (b"x-some", b"Thing") in scope["headers"]
        assert scope["client"][0] == "127.0.0.1"
        assert server.urls == ("http://{}:{}".format(*scope["server"]),)
        assert scope["state"] == {"stopping": server.stopping}


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 9\r\n\r\nsome body",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nsome \r\n4\r\nbody\r\n0\r\n\r\n",
    ],
)
async def test_a_body_is_read_whole(framing: str) -> None:
    octets = f"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}".encode()
    assert (await one_answer(octets)).body == b"some body"


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with served(Script()) as server, await server.connect() as stream:
        await stream.send_all(
            get("/echo", "Content-Length: 4", "Expect: 100-continue", "Connection: close", method="POST")
        )
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"body")
        (found,) = answers(await read_all(stream))
    assert found.body == b"body"


@pytest.mark.parametrize("path", ["/hello", "/chunks"])
async def test_the_answer_to_head_has_no_body(path: str) -> None:
    found = await one_answer(get(path, method="HEAD"), "HEAD")
    assert (found.status, found.body) == (200, b"")


async def test_an_answer_without_content() -> None:
    found = await one_answer(get("/nothing"))
    assert (found.status, found.body) == (204, b"")


async def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_their_order() -> None:
    octets = get("/hello", "A: b") + get("/echo", "Content-Length: 3", method="POST") + b"one"
    octets += get("/hello", "A: b", method="HEAD") + get("/chunks")
    async with served(app := Script()) as server:
        found = answers(await exchange(server, octets), ["GET", "POST", "HEAD", "GET"])
    assert [one.body for one in found] == [b"GET", b"one", b"", b"one two"]
    assert [scope["path"] for scope in app.scopes] == ["/hello", "/echo", "/hello", "/chunks"]


async def test_requests_sent_while_the_application_watches_its_client_are_kept() -> None:
    class Watching(Script):
        async def both(self, call: Call) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.watch, call)
                await self.wait(call)

    async with served(app := Watching()) as server, await server.connect() as stream:
        await stream.send_all(get("/both", "A: b"))
        await app.waiting.wait()
        await stream.send_all(get("/hello"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        app.go_on.set()
        found = answers(await read_all(stream), ["GET", "GET"])
    assert [one.body for one in found] == [b"waited", b"GET"]


async def test_http_1_0_ends_with_its_answer() -> None:
    async with served(Script()) as server:
        octets = await exchange(server, get("/chunks", "A: b", version="1.0"))
    head, _, body = octets.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b"one two"


async def test_the_application_hears_when_its_client_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    async with served(app := Script()) as server:
        async with await server.connect() as stream:
            await stream.send_all(get("/watch"))
            await app.waiting.wait()
        await app.disconnected.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert caplog.records == []  # to answer nobody is no fault


async def test_an_application_that_answers_nobody_is_ended() -> None:
    class Endless(Script):
        async def endless_until(self, call: Call) -> None:
            try:
                await self.endless(call)
            finally:
                self.disconnected.set()

    async with served(app := Endless()) as server:
        async with await server.connect() as stream:
            await stream.send_all(get("/endless-until"))
            await read_until(stream, b"\r\n\r\n")
        await app.disconnected.wait()


# --- what goes wrong ---


@pytest.mark.parametrize("path", ["/crash", "/crash-in-a-group", "/forget", "/bad-header"])
async def test_an_application_that_fails_before_its_answer(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Script()) as server:
        found = answers(await exchange(server, get(path, "A: b") + get("/hello")), ["GET", "GET"])
    assert [one.status for one in found] == [500, 200]
    assert found[0].error == "internal server error"
    assert dict(SECURITY_HEADERS).items() <= found[0].headers.items()
    assert b"secret" not in found[0].body
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("path", ["/crash-late", "/promise-more"])
async def test_an_answer_that_is_not_whole_ends_with_the_connection(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Script()) as server:
        octets = await exchange(server, get(path, "A: b") + get("/hello"))
    assert octets.count(b"HTTP/1.1") == 1
    assert not octets.endswith(b"0\r\n\r\n")
    assert len(caplog.records) == 1


async def test_an_application_that_fails_after_its_answer_keeps_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(Script()) as server:
        found = answers(
            await exchange(server, get("/crash-afterwards", "A: b") + get("/hello")), ["GET", "GET"]
        )
    assert [one.body for one in found] == [b"all of it", b"GET"]
    assert len(caplog.records) == 1


async def test_the_log_has_one_line_whatever_the_path_is(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Script()) as server:
        await exchange(server, get("/%0d%0aforged%1b%e2%80%ae"))
    (record,) = caplog.records
    assert record.getMessage() == "GET '/\\r\\nforged\\x1b\\u202e' failed"


async def test_half_an_answer_is_never_gone_on_with() -> None:
    async with served(app := Script()) as server, await server.connect() as stream:
        await stream.send_all(get("/give-up-sending", "A: b") + get("/hello"))
        await app.disconnected.wait()
        octets = await read_all(stream)
    assert octets.count(b"HTTP/1.1") == 1
    assert b"the end" not in octets


async def test_what_two_tasks_of_the_application_send_is_not_mixed(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Script()) as server, await server.connect() as stream:
        await stream.send_all(get("/two-senders"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        (found,) = answers(await read_all(stream))
    assert sorted(found.body[index] for index in (0, 4_999_999, 5_000_000, -1)) == sorted(b"aabb")
    assert found.body.count(b"ab") + found.body.count(b"ba") == 1
    assert caplog.records == []


async def test_two_tasks_of_the_application_hear_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async with served(app := Script()) as server:
        async with await server.connect() as stream:
            await stream.send_all(get("/two-watchers"))
            await app.waiting.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
        await app.disconnected.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert caplog.records == []


REFUSED = {
    "no host": (b"GET /hello HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "both lengths": (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "both lengths, turned": (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two different lengths": (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    "a length that is none": (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
    "another encoding": (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked by 1.0": (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a space before the colon": (b"GET /hello HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "a bad chunk": (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "absolute form": (b"GET http://a/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "authority form": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /hello#there HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a path that is not UTF-8": (b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "noise": (b"\x00\x01\x02\x03\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_understood_in_one_way_is_refused(name: str) -> None:
    octets, status = REFUSED[name]
    async with served(app := Script()) as server:
        # Whatever follows is not taken for a request.
        (found,) = answers(await exchange(server, octets + get("/hello")))
    assert found.status == status
    assert found.error
    assert "bytearray" not in found.error
    assert found.headers[b"connection"] == b"close"
    assert app.scopes == []
    assert dict(SECURITY_HEADERS).items() <= found.headers.items()


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    ],
    ids=["h2c", "websocket"],
)
async def test_an_upgrade_is_not_taken_up(headers: tuple[str, ...]) -> None:
    async with served(Script()) as server:
        found = answers(await exchange(server, get("/hello", *headers) + get("/hello")), ["GET", "GET"])
    assert [one.status for one in found] == [200, 200]


async def test_a_broken_connection_does_not_end_the_server() -> None:
    async with served(app := Script()) as server:
        for octets in (b"", b"GET /he", get("/watch"), get("/big")):
            stream = await server.connect()
            await stream.send_all(octets or b" ")
            assert isinstance(stream, trio.SocketStream)
            # Closing resets the connection.
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()
        (found,) = answers(await exchange(server, get("/hello")))
    assert found.status == 200
    assert app.scopes[-1]["path"] == "/hello"


async def test_a_lack_of_file_descriptors_does_not_end_the_server(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    import resource  # noqa: PLC0415  # where there is one

    told = trio.Event()

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002  # the interface's name
            told.set()

    logging.getLogger("trio_graphile.admin").addHandler(handler := Telling())
    request.addfinalizer(lambda: logging.getLogger("trio_graphile.admin").removeHandler(handler))
    async with served(Script()) as server:
        waiting = await server.connect()
        async with waiting:
            await waiting.send_all(get("/hello", "A: b"))
            await read_until(waiting, b"GET")
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            client = trio.socket.socket()
            highest = max(client.fileno(), 3)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            try:
                host, port = server.urls[0].removeprefix("http://").split(":")
                await client.connect((host, int(port)))
                await told.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            stream = trio.SocketStream(client)
            async with stream:
                await stream.send_all(get("/hello"))
                (found,) = answers(await read_all(stream))
    assert found.status == 200
    assert "no connection can be accepted" in caplog.records[0].getMessage()
