"""One request and its answer: calls the application, and makes it follow the rules of ASGI."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import trio

from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.refusals import INTERNAL_ERROR
from trio_graphile.admin._server.wire import ClientGone, Wire

_logger = logging.getLogger("trio_graphile.admin")

Event: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]],
    Awaitable[None],
]
"""An ASGI application."""

_EVENT_STREAM = b"text/event-stream"


class Exchange:
    """One request and its answer. `run` returns whether the answer is whole."""

    def __init__(self, wire: Wire, scope: dict[str, Any], body: bytes, limits: ServerLimits) -> None:
        self._wire = wire
        self._scope = scope
        self._stopping: trio.Event = scope["state"]["stopping"]
        self._limits = limits
        self._body: bytes | None = body
        self._reading = trio.Lock()
        self._sending = trio.Lock()
        self._is_stream = trio.Event()
        self._over = trio.Event()
        # `_send` cancels it when there is nobody left to answer.
        self._application = trio.CancelScope()  # noqa: TID251

    async def run(self, app: Application) -> bool:
        """Call the application and send its whole answer; return False if the connection must be cut."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_stream_at_stop, name="end of an event stream")
            with self._application:
                await self._call(app)
            nursery.cancel_scope.cancel()
        return self._wire.answer_is_complete

    async def _call(self, app: Application) -> None:
        failure: BaseException | None = None
        try:
            await app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  # the application's code may raise anything
            failure = error
        except BaseExceptionGroup as group:
            failure, rest = group.split(Exception)
            if rest is not None:  # Cancelled, KeyboardInterrupt: never ours to swallow
                if failure is not None:
                    self._log(failure)
                raise rest from None
        if failure is not None:
            self._log(failure)
        elif self._over.is_set():
            return  # the answer is complete, or the application knows that nobody waits for it
        else:
            self._log(RuntimeError("the application returned before its answer was complete"))
        if not self._wire.answer_has_begun:
            await self._answer_for_the_application()

    async def _answer_for_the_application(self) -> None:
        try:
            await self._wire.refuse(
                INTERNAL_ERROR, close=self._stopping.is_set(), with_body=self._scope["method"] != "HEAD"
            )
        except ClientGone:
            return

    def _log(self, failure: BaseException) -> None:
        # As an ASCII literal: a path may hold line feeds and worse.
        _logger.error("%s %a failed", self._scope["method"], self._scope["path"], exc_info=failure)

    # --- what the application is given ---

    async def _receive(self) -> Event:
        async with self._reading:
            if self._body is not None:
                body, self._body = self._body, None
                return {"type": "http.request", "body": body, "more_body": False}
            await self._wait_until_over()
            return {"type": "http.disconnect"}

    async def _wait_until_over(self) -> None:
        """Return when the request is over.

        Its answer is complete, its client is gone, or it is an event stream and the server stops.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_client)
            await self._over.wait()
            nursery.cancel_scope.cancel()

    async def _watch_client(self) -> None:
        if not self._over.is_set():
            await self._wire.wait_until_gone()
            self._over.set()

    async def _send(self, event: Event) -> None:
        try:
            async with self._sending:
                await self._pass_on(event)
        except ClientGone:
            self._application.cancel()
            await trio.lowlevel.checkpoint()

    async def _pass_on(self, event: Event) -> None:
        kind = event["type"]
        if kind == "http.response.start" and not self._wire.answer_has_begun:
            headers = list(event.get("headers", ()))
            await self._wire.send_head(event["status"], headers, close=self._stopping.is_set())
            if any(n.lower() == b"content-type" and v.startswith(_EVENT_STREAM) for n, v in headers):
                self._is_stream.set()
        elif kind == "http.response.body" and self._answering():
            if self._scope["method"] != "HEAD":
                await self._wire.send_body(bytes(event.get("body", b"")))
            if not event.get("more_body", False):
                await self._wire.send_end()
                self._over.set()
        else:
            raise RuntimeError(f"the application sent {kind!r} out of order")

    def _answering(self) -> bool:
        return self._wire.answer_has_begun and not self._wire.answer_is_complete

    async def _end_stream_at_stop(self) -> None:
        await self._stopping.wait()
        await self._is_stream.wait()
        self._over.set()
        await trio.sleep(self._limits.farewell_period)
        self._application.cancel()
