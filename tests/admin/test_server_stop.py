"""How a server ends: stopped or cancelled, whatever its clients do."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.admin.serving import BOUND, Script, Served, answers, get, names_in, read_all, read_until, served
from trio_graphile.admin import ServerLimits, serve_admin
from trio_graphile.testing._points import ActAt

FOREVER = ServerLimits(
    head_timeout=3600,
    body_timeout=3600,
    send_timeout=3600,
    idle_timeout=3600,
    grace_period=3600,
    farewell_period=3600,
)
"""Whatever ends under these ends at once, or the test does by its own bound."""

OPENINGS = {
    "nothing": b"",
    "half a head": b"GET /hello HTTP/1.1\r\nHost:",
    "half a body": get("/echo", "Content-Length: 10", method="POST") + b"half",
    "an answer that is not read": get("/big"),
    "a request under way": get("/wait"),
    "a request that watches its client": get("/watch"),
    "an event stream": get("/stream"),
    "an event stream that does not end": get("/stubborn-stream"),
    "a refusal that is not read": b"GET\r\n\r\n",
}


async def opened(server: Served, octets: bytes) -> trio.SocketStream:
    stream = await server.connect()
    await stream.send_all(octets)
    await trio.testing.wait_all_tasks_blocked(0.005)
    return stream


@pytest.mark.parametrize("name", OPENINGS)
async def test_a_cancellation_ends_everything_at_once(name: str) -> None:
    async with served(Script(), limits=FOREVER) as server, await opened(server, OPENINGS[name]) as stream:
        server.cancel.cancel()
        await server.ended.wait()
        await drain(stream)


async def drain(stream: trio.abc.ReceiveStream) -> None:
    try:
        await read_all(stream)
    except trio.BrokenResourceError:
        return


@pytest.mark.parametrize("name", ["nothing", "half a head", "a refusal that is not read", "an event stream"])
async def test_a_stop_ends_what_is_idle_at_once(name: str) -> None:
    async with served(Script(), limits=FOREVER) as server, await opened(server, OPENINGS[name]) as stream:
        server.stopping.set()
        await server.ended.wait()
        await drain(stream)


async def test_a_stop_ends_a_connection_between_two_requests() -> None:
    async with served(Script(), limits=FOREVER) as server, await server.connect() as stream:
        await stream.send_all(get("/hello", "A: b"))
        await read_until(stream, b"GET")
        server.stopping.set()
        await server.ended.wait()
        assert await read_all(stream) == b""


@pytest.mark.parametrize(
    "name",
    ["half a body", "an answer that is not read", "a request under way", "a request that watches its client"],
)
async def test_a_stop_gives_what_is_under_way_its_grace_period(name: str) -> None:
    limits = ServerLimits(grace_period=0.1)
    async with served(Script(), limits=limits) as server, await opened(server, OPENINGS[name]) as stream:
        server.stopping.set()
        stopped_at = trio.current_time()
        await server.ended.wait()
        assert trio.current_time() - stopped_at >= 0.1
        await drain(stream)


async def test_a_request_under_way_is_answered_and_its_connection_ends() -> None:
    app = Script()
    async with served(app, limits=FOREVER) as server:
        async with await opened(server, get("/wait", "A: b") + get("/hello")) as stream:
            server.stopping.set()
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert not server.ended.is_set()
            app.go_on.set()
            (found,) = answers(await read_all(stream))
        await server.ended.wait()
    assert found.body == b"waited"
    assert found.headers[b"connection"] == b"close"
    assert len(app.scopes) == 1


async def test_nobody_is_accepted_after_a_stop() -> None:
    app = Script()
    async with served(app, limits=FOREVER) as server, await opened(server, get("/wait")) as stream:
        server.stopping.set()
        await trio.testing.wait_all_tasks_blocked(0.005)
        with pytest.raises(OSError, match="connect"):
            await server.connect()
        app.go_on.set()
        await read_all(stream)


async def test_twenty_event_streams_say_goodbye() -> None:
    async with served(Script(), limits=FOREVER) as server:
        streams = [await opened(server, get("/stream")) for _ in range(20)]
        server.stopping.set()
        await server.ended.wait()
        for stream in streams:
            async with stream:
                (found,) = answers(await read_all(stream))
                assert found.body == b"event: hello\n\nevent: bye\n\n"


async def test_an_event_stream_that_does_not_end_is_ended() -> None:
    limits = ServerLimits(grace_period=3600, farewell_period=0.01)
    async with (
        served(Script(), limits=limits) as server,
        await opened(server, get("/stubborn-stream")) as stream,
    ):
        server.stopping.set()
        await server.ended.wait()
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")


async def test_an_event_stream_that_begins_during_a_stop_ends_as_well() -> None:
    class Late(Script):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self.waiting.set()
            await scope["state"]["stopping"].wait()
            await super().__call__(scope, receive, send)

    limits = ServerLimits(grace_period=3600, farewell_period=0.01)
    async with (
        served(Late(), limits=limits) as server,
        await opened(server, get("/stubborn-stream")) as stream,
    ):
        server.stopping.set()
        await server.ended.wait()
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")


async def test_a_stop_before_the_start_serves_nobody(tmp_path: Path) -> None:
    stopping = trio.Event()
    stopping.set()
    with trio.fail_after(BOUND):
        await serve_admin(Script(), f"unix:{tmp_path / 'socket'}", stopping=stopping)
    assert names_in(tmp_path) == []


# --- every scheduling point ---

SCENARIOS = {
    "two requests": get("/hello", "A: b") + get("/chunks"),
    "a body": get("/echo", "Content-Length: 3", "Connection: close", method="POST") + b"one",
    "a refusal": b"GET\r\n\r\n",
    "a crash": get("/crash"),
    "an event stream": get("/stream"),
    "a long answer": get("/long"),
}


class Long(Script):
    async def long(self, call: Any) -> None:
        await call.send({"type": "http.response.start", "status": 200, "headers": []})
        await call.send({"type": "http.response.body", "body": bytes(500_000)})


async def converse(path: Path, octets: bytes, *, end: str, point: int | None) -> int:
    """Serve one client, and end the server at a point; return how many points there were."""
    app, stopping = Long(), trio.Event()
    app.go_on.set()
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            act = stopping.set if end == "stop" else nursery.cancel_scope.cancel
            instrument = ActAt(point, act)
            with instrument.installed():
                limits = ServerLimits(grace_period=3600, farewell_period=3600)
                serve = functools.partial(serve_admin, app, f"unix:{path}", stopping=stopping, limits=limits)
                await nursery.start(serve)
                await one_client(path, octets)
            # What is left at a point beyond the last one.
            nursery.cancel_scope.cancel()
    return instrument.count


async def one_client(path: Path, octets: bytes) -> None:
    try:
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(octets)
            if b"/stream" in octets:
                await stream.receive_some()
            else:
                await read_all(stream)
    except (OSError, trio.BrokenResourceError):
        return  # the server ended before


@pytest.mark.parametrize("end", ["cancel", "stop"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_server_ends_at_every_point(
    name: str, end: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "socket"
    points = await converse(path, SCENARIOS[name], end=end, point=None)
    assert points > 10
    for point in range(1, points + 1):
        await converse(path, SCENARIOS[name], end=end, point=point)
        assert names_in(tmp_path) == [], f"after point {point} of {points}"
        if name != "a crash":
            assert caplog.records == []
