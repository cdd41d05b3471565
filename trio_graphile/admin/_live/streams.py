"""Server-sent events about changes, for open pages. A slow reader gets only the latest state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio

from trio_graphile._model.bell import Bell
from trio_graphile._model.json import encode
from trio_graphile.admin._live.looks import Looks, TooManyViewers
from trio_graphile.admin._live.points import Look

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_SIGN_OF_LIFE_INTERVAL = 15.0
_STATES = ("total", "ready", "scheduled", "locked", "failed")
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


async def stream_events(
    looks: Looks,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    *,
    sign_of_life: float = _SIGN_OF_LIFE_INTERVAL,
) -> None:
    """Send changes to a client until it leaves, loses access, or the server or the watching stops.

    `scope["state"]` has the events `access_ended` and `stopping`, and, if access can end, `access_ends_at` by
    Trio's clock. Then the last event is `bye`. Answers 503 if there are too many clients.
    """
    try:
        with looks.watching(_client_of(scope)):
            await _Stream(looks=looks, send=send, sign_of_life=sign_of_life).run(scope["state"], receive)
    except TooManyViewers:
        await _refuse(send)


def _client_of(scope: MutableMapping[str, Any]) -> str:
    """Return the key by which streams are counted: one user at one address."""
    state = scope["state"]
    host, _port = scope.get("client") or ("", None)
    # Behind a trusted proxy all users have its address.
    return f"{state.get('client', host)} {getattr(state.get('access'), 'user', '')}"


async def _refuse(send: Send) -> None:
    body = encode({"error": "too many pages are watching: close some, or try again later"}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"5"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@attrs.define(eq=False, kw_only=True)
class _Stream:
    """The stream of one client. Nothing waits for it; after each event it gets the latest state."""

    _looks: Looks
    _send: Send
    _sign_of_life: float
    """After how many seconds without an event a comment is sent."""
    _is_over: bool = attrs.field(init=False, default=False)
    _news: Bell = attrs.field(init=False, factory=Bell)

    async def run(self, state: MutableMapping[str, Any], receive: Receive) -> None:
        """Send events until the stream ends."""
        stopping = state.get("stopping")
        async with trio.open_nursery() as nursery:
            for event in (stopping, state.get("access_ended"), self._looks.ended):
                if event is not None:
                    nursery.start_soon(self._end_with, event)
            if (ends_at := state.get("access_ends_at")) is not None:
                nursery.start_soon(self._end_at, ends_at)
            nursery.start_soon(self._pass_on_news)
            nursery.start_soon(partial(self._watch_client, receive, stopping, nursery.cancel_scope))
            await self._tell()
            nursery.cancel_scope.cancel()

    async def _end_with(self, event: trio.Event) -> None:
        await event.wait()
        self._end()

    async def _end_at(self, time: float) -> None:
        await trio.sleep_until(time)
        self._end()

    def _end(self) -> None:
        self._is_over = True
        self._news.ring()

    async def _pass_on_news(self) -> None:
        while True:
            await self._looks.news.wait()
            self._news.ring()

    async def _watch_client(
        self,
        receive: Receive,
        stopping: trio.Event | None,
        everything: trio.CancelScope,  # noqa: TID251  # only cancelled
    ) -> None:
        """Cancel everything when the client is gone. If the server stops, `bye` is sent first."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if stopping is None or not stopping.is_set():
            everything.cancel()

    async def _tell(self) -> None:
        looks, looked, changed = self._looks, -1, self._looks.changed
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._write("retry: 2000\n\n")
        while not self._is_over:
            if looks.latest is not None and looks.looked != looked:
                looked = looks.looked
                await self._write(_event("overview", overview_of(looks.latest)))
            elif looks.changed != changed:
                changed = looks.changed
                await self._write(_event("changed", {}))
            else:
                with trio.move_on_after(self._sign_of_life) as silence:
                    await self._news.wait()
                if silence.cancelled_caught:
                    await self._write(": \n\n")
        await self._write(_event("bye", {}), more=False)

    async def _write(self, text: str, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": more})


def _event(kind: str, value: object) -> str:
    return f"event: {kind}\ndata: {encode(value)}\n\n"


def overview_of(look: Look) -> dict[str, object]:
    """Return the look for a page, under the keys of `/api/overview`."""
    counts = {state: getattr(look.counts, state) for state in _STATES}
    return {
        "stats": {state: count.value for state, count in counts.items()},
        "estimated": [state for state, count in counts.items() if count.is_estimate],
        "counted_at": look.counts.counted_at,
        "oldest_ready_at": look.counts.oldest_ready_at,
        "live_workers": sum(not worker.is_stale for worker in look.workers),
    }
