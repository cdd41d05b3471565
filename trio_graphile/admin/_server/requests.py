"""Turns the head of a request into an ASGI scope, or refuses it. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import attrs
import h11
import trio

from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.refusals import HEAD_TOO_LARGE, TARGET_TOO_LONG, Refusal, body_too_large


@attrs.frozen(kw_only=True)
class Peer:
    """The two ends of a connection, as ASGI has them."""

    scheme: str = "http"
    client: tuple[str, int] | None = None
    """The address of the client; None for UNIX sockets."""
    server: tuple[str, int | None] | None = None


def refuse_head(request: h11.Request, limits: ServerLimits) -> Refusal | None:
    """Return why a request is refused, if it is: its size, its form, or an ambiguous end."""
    if len(request.target) > limits.target_size:
        return TARGET_TOO_LONG
    if _size(request) > limits.head_size:
        return HEAD_TOO_LARGE
    if request.http_version not in {b"1.0", b"1.1"}:
        return Refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    return _refuse_target(request.target) or _refuse_framing(request, limits)


def _size(request: h11.Request) -> int:
    first_line = len(request.method) + len(request.target) + len(b"  HTTP/1.1\r\n")
    return first_line + sum(len(name) + len(value) + len(b": \r\n") for name, value in request.headers)


def _refuse_target(target: bytes) -> Refusal | None:
    if not target.startswith(b"/") or b"#" in target:
        return Refusal(400, "the address of the request is not a path")
    try:
        _path(target).decode()
    except UnicodeDecodeError:
        return Refusal(400, "the path of the request is not UTF-8")
    return None


def _refuse_framing(request: h11.Request, limits: ServerLimits) -> Refusal | None:
    lengths = [value for name, value in request.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    if chunked and lengths:
        return Refusal(400, "the request has both Content-Length and Transfer-Encoding")
    if chunked and request.http_version == b"1.0":
        return Refusal(400, "a request by HTTP/1.0 cannot have a Transfer-Encoding")
    if lengths and int(lengths[0]) > limits.body_size:
        return body_too_large(limits.body_size)
    return None


def _path(target: bytes) -> bytes:
    return unquote_to_bytes(target.partition(b"?")[0])


def scope_of(request: h11.Request, peer: Peer, stopping: trio.Event) -> dict[str, Any]:
    """Return the ASGI scope of a request whose head was not refused."""
    raw_path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        # With 2.4 applications would learn by an error that the client is gone; with 2.3 they watch for it.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": peer.scheme,
        "path": _path(request.target).decode(),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "client": peer.client,
        "server": peer.server,
        "state": {"stopping": stopping},
    }
