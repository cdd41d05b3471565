"""Rules for every answer: strict headers, and no error that reveals too much."""

from __future__ import annotations

import logging

import attrs
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trio_graphile._exceptions import DatabaseClosed, DatabaseError, StatementFailed
from trio_graphile.admin._headers import NO_STORE, SECURITY_HEADERS

logger = logging.getLogger("trio_graphile.admin")

_QUERY_CANCELED = "57014"
_TOO_LONG = "the database took too long: ask for less, or try again later"
_UNAVAILABLE = "the database does not answer"
_STOPPING = "the admin stops"
_BROKEN = "internal server error"


@attrs.frozen
class StrictAnswers:
    """Adds the security headers to every answer of an application, and answers if it raises."""

    _app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if answer.has_begun:  # too late for another answer: the server ends the connection
                raise
            await _answer_error(scope, error)(scope, receive, answer.send)


@attrs.define(eq=False)
class _Answer:
    """An answer that is being sent."""

    _send: Send
    has_begun: bool = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            message = {**message, "headers": with_security_headers(message.get("headers", ()))}
        await self._send(message)


def with_security_headers(headers: object) -> list[tuple[bytes, bytes]]:
    """Return headers with ours added. Only Cache-Control may differ from ours."""
    given = [(bytes(name).lower(), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]  # as ASGI has them
    ours = {name for name, _ in SECURITY_HEADERS if name != NO_STORE[0]}
    kept = [(name, value) for name, value in given if name not in ours]
    has_own_caching = any(name == NO_STORE[0] for name, _ in kept)
    return kept + [header for header in SECURITY_HEADERS if header != NO_STORE or not has_own_caching]


def _answer_error(scope: Scope, error: Exception) -> Response:
    status, text = _answer_of(error)
    if status == 500:
        logger.error("%s %a failed", scope["method"], scope["path"], exc_info=error)
    elif status == 503:
        logger.warning("%s %a: %s", scope["method"], scope["path"], error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return error_answer(scope, status, text, headers)


def _answer_of(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException():
            return error.status_code, str(error.detail).lower()
        case StatementFailed(sqlstate=state) if state == _QUERY_CANCELED:
            return 503, _TOO_LONG
        case DatabaseClosed():
            return 503, _STOPPING
        case DatabaseError() if error.transient:
            return 503, _UNAVAILABLE
        case _:
            return 500, _BROKEN


def error_answer(scope: Scope, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as JSON if the client expects that, else as text."""
    # Whatever the prefix is: a proxy may have left its own, which we do not know here.
    if "/api/" in f"{scope['path']}/" or scope["method"] not in ("GET", "HEAD"):
        return JSONResponse({"error": text}, status, headers)
    return PlainTextResponse(f"{text}\n", status, headers)
