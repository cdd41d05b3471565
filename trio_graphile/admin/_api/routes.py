"""The routes of the API, one for each path. Every answer is JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from trio_graphile._exceptions import (
    DatabaseClosed,
    DatabaseError,
    JobRefused,
    JobSkipped,
    OptionInvalid,
    PayloadInvalid,
    SchemaError,
    SessionsBusy,
    StatementFailed,
)
from trio_graphile._model.verbatim import encode_shown
from trio_graphile.admin._api.endpoint import Asked, Endpoint
from trio_graphile.admin._api.table import ENDPOINTS
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.json_text import parse_json
from trio_graphile.admin._operations.reading import read_query, read_value
from trio_graphile.admin._operations.refusals import (
    Conflicting,
    Forbidden,
    Malformed,
    Refusal,
    TooLarge,
    Unavailable,
    WrongType,
)
from trio_graphile.admin._operations.requests import JobId
from trio_graphile.admin._options import Access

logger = logging.getLogger("trio_graphile.admin")

_MOST_BYTES = 1024 * 1024
_QUERY_CANCELED = "57014"
_READ_ONLY = "25006"


def routes(context: Context, endpoints: Iterable[Endpoint] = ENDPOINTS) -> list[BaseRoute]:
    """Return a route for each path; paths without parameters come first."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    paths = sorted(by_path, key=lambda path: ("{" in path, path))
    return [Route(path, PathOfApi(context, by_path[path]), name=path) for path in paths]


@attrs.frozen
class PathOfApi:
    """Serves one path."""

    _context: Context
    endpoints: Mapping[str, Endpoint]
    """The endpoints, by method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = self.endpoints.get(method)
        if endpoint is None:
            allowed = ", ".join(sorted({*self.endpoints, *(["HEAD"] if "GET" in self.endpoints else [])}))
            return JSONResponse({"error": f"use {allowed}"}, 405, {"allow": allowed})
        try:
            asked = await _asked(self._context, endpoint, request)
            answer = await endpoint.serve(asked)
        except Exception as error:  # noqa: BLE001  # every error is answered in JSON
            refusal = _refusal_of(error)
            return JSONResponse({"error": refusal.text}, refusal.status)
        return answer if isinstance(answer, Response) else json_response(answer)


def json_response(answer: object) -> Response:
    """Return an answer as JSON: times as RFC 3339, payloads exactly as stored."""
    # Half of a surrogate pair becomes an escape, as JSON has it.
    content = encode_shown(answer).encode(errors="backslashreplace")
    return Response(content, media_type="application/json")


async def _asked(context: Context, endpoint: Endpoint, request: Request) -> Asked:
    """Return the request as a value. Access comes first: users without it learn nothing about parameters."""
    access: Access = request.state.access
    if endpoint.actions and not any(access.allows(action) for action in endpoint.actions):
        names = " or ".join(action.value for action in endpoint.actions)
        raise Forbidden(f"{access.user} may not {names} here")
    job_id = read_job_id(request.path_params["id"]) if "id" in request.path_params else 0
    given: object = read_query(request.scope["query_string"], endpoint.query or NoQuery)
    if endpoint.body is not None:
        given = read_value(parse_json(await _body(request)), endpoint.body)
    return Asked(context=context, access=access, given=given, job_id=job_id, request=request)


@attrs.frozen
class NoQuery:
    """A query without parameters."""


def read_job_id(text: str) -> int:
    """Return the id of a job. Raises `Malformed`."""
    is_number = text.isascii() and text.isdecimal() and len(text) < 20
    if not is_number:
        raise Malformed(f"{text[:40]!a} is no job's id")
    return read_value(int(text), JobId)


async def _body(request: Request) -> bytes:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise WrongType("the body has to be JSON: send content-type: application/json")
    content = bytearray()
    has_more = True
    while has_more:
        received = await request.receive()
        if received["type"] == "http.disconnect":
            raise Malformed("the body ends in the middle")
        content += received.get("body", b"")
        if len(content) > _MOST_BYTES:
            raise TooLarge(f"the body is over {_MOST_BYTES} bytes")
        has_more = received.get("more_body", False)
    return bytes(content)


def _refusal_of(error: Exception) -> Refusal:
    """Return the answer for an error of ours. Details appear only in the log."""
    match error:
        case Refusal():
            return error
        case OptionInvalid() | PayloadInvalid():
            return Malformed(str(error))
        case JobSkipped() | JobRefused():
            return Conflicting(str(error))
        case StatementFailed(sqlstate=state) if state == _QUERY_CANCELED:
            return Unavailable("it took too long: ask for less, or try again later")
        case StatementFailed(sqlstate=state) if state == _READ_ONLY:
            return Forbidden("the database takes no writes here")
        case StatementFailed(sqlstate=state) if (state or "").startswith("22"):
            return Malformed("the database cannot hold one of the values")
        case SessionsBusy():
            return Unavailable("too much is asked of the database at once: try again later")
        case DatabaseError() if error.transient:
            logger.warning("the database did not answer: %s", error)
            return Unavailable("the database does not answer")
        case DatabaseClosed():
            return Unavailable("the admin stops")
        case SchemaError():
            return Unavailable(str(error))
        case _:
            logger.error("a request failed", exc_info=error)
            return Broken("internal server error")


class Broken(Refusal):
    """The server made a mistake."""

    status = 500
