"""Pages over HTTP for orchestrators and scrapers in a trusted network.

The server is small and strict: it answers GET and HEAD without a body, one request for each connection, and
limits time, size and number of requests.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

import attrs
import trio

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._interceptors.raised import own_failure
from trio_graphile._model.health import Health, HealthOptions, health_of
from trio_graphile._model.json import encode
from trio_graphile._model.validators import check_kind, described
from trio_graphile.hooks import ObservedWorker

__all__ = ["HealthOptions", "Page", "Pages", "health_pages", "serve_pages"]

_logger = logging.getLogger("trio_graphile.pages")

_LONGEST_HEAD = 8192
"""The limit of a request's line and headers, in bytes."""
_TIMEOUT = 5.0
"""How long a request and its response may take together, in seconds."""
_HANG_UP_TIMEOUT = 0.5
"""How long a client has to hang up after the response, in seconds."""
_MOST_IGNORED = 1 << 20
"""The limit of what is read and ignored until a client hangs up, in bytes."""
_MOST_AT_ONCE = 64
"""The number of requests that are served at once; further ones wait."""
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@attrs.frozen(kw_only=True)
class Page:
    """A response."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes


Pages: TypeAlias = Mapping[str, Callable[[], Page | Awaitable[Page]]]
"""For each path the function, async or not, that makes its page."""


async def serve_pages(
    listen: str, pages: Pages, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve pages until cancelled, on an address such as `127.0.0.1:9000`, `[::]:9000` or `:9000`.

    Start it beside the worker:
    `await nursery.start(serve_pages, ":9000", {**health_pages(worker), **prometheus.pages()})`.
    `nursery.start` returns the address; for port 0 it has the port that the system has chosen. Raises
    `OptionInvalid` if `listen` is no address, and `OSError` if the address cannot be bound.
    """
    host, port = _address(listen)
    _check_pages(pages)
    listeners = await trio.open_tcp_listeners(port, host=host)
    limiter = trio.CapacityLimiter(_MOST_AT_ONCE)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, partial(_serve, pages, limiter), listeners)
        name = listeners[0].socket.getsockname()
        bound = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        _logger.info("serving %s on %s", ", ".join(pages), bound)
        task_status.started(bound)


def health_pages(worker: ObservedWorker, options: HealthOptions | None = None) -> Pages:
    """Return the pages `/livez` and `/readyz` of a worker: status 200 or 503, with the reasons as JSON.

    `/livez` fails if the worker has ended, or was cut off from the database for too long: its process should
    be replaced. `/readyz` fails while the worker does not do its work.
    """
    options = HealthOptions() if options is None else options
    check_kind("options", options, HealthOptions)
    if not callable(getattr(worker, "statistics", None)):
        raise OptionInvalid("worker", f"a Worker is needed, not {described(worker)}")

    def live() -> Page:
        health = health_of(worker.statistics(), options)
        return _health_page(worker.worker_id, health, ok=health.is_alive)

    def ready() -> Page:
        health = health_of(worker.statistics(), options)
        return _health_page(worker.worker_id, health, ok=health.is_ready)

    return {"/livez": live, "/readyz": ready}


def _health_page(worker_id: str, health: Health, *, ok: bool) -> Page:
    body = {"ok": ok, "worker_id": worker_id, "reasons": health.reasons, "remarks": health.remarks}
    return Page(status=200 if ok else 503, body=encode(body).encode())


def _check_pages(pages: Pages) -> None:
    check_kind("pages", pages, Mapping)
    for path, make in pages.items():
        if not callable(make):
            raise OptionInvalid(
                "pages", f"a function that makes the page {path} is needed, not {described(make)}"
            )


def _address(listen: str) -> tuple[str | None, int]:
    check_kind("listen", listen, str, '":9000"')
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise OptionInvalid("listen", f"an address such as 127.0.0.1:9000 is needed, not {listen!r}")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


async def _serve(pages: Pages, limiter: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    """Respond to one request. A client's mistakes affect no other client."""
    try:
        with trio.move_on_after(_TIMEOUT):
            async with stream, limiter:
                is_head, page = await _requested_page(pages, stream)
                await stream.send_all(_encoded(page, with_body=not is_head))
                await stream.send_eof()
                await _wait_for_hang_up(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client has hung up


async def _wait_for_hang_up(stream: trio.SocketStream) -> None:
    """Wait a moment for the client to hang up: to close while it still sends could lose the response."""
    left = _MOST_IGNORED
    with trio.move_on_after(_HANG_UP_TIMEOUT):
        while left > 0 and (chunk := await stream.receive_some(_LONGEST_HEAD)):
            left -= len(chunk)


async def _requested_page(pages: Pages, stream: trio.SocketStream) -> tuple[bool, Page]:
    """Read a request. Return whether it asks for the head of a response alone, and the page."""
    head = await _read_head(stream)
    if head is None:
        return False, _error(431, "the request is too long")
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    path, _, version = rest.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not path.startswith(b"/"):
        return False, _error(400, "this is no request of HTTP/1.1")
    is_head = method == b"HEAD"
    if method not in (b"GET", b"HEAD"):
        return is_head, _error(405, "pages can only be read")
    make = pages.get(path.partition(b"?")[0].decode("latin-1"))
    if make is None:
        return is_head, _error(404, f"there are only {', '.join(pages)}")
    try:
        page = make()
        return is_head, page if isinstance(page, Page) else await page
    except BaseException as error:  # noqa: ASYNC103  # a user's page may raise anything
        _logger.exception("a page could not be made: %s", path.decode("latin-1"), exc_info=own_failure(error))
        return is_head, _error(500, "the page could not be made: see the log")  # noqa: ASYNC104  # `own_failure` raises a cancellation


async def _read_head(stream: trio.SocketStream) -> bytes | None:
    """Return a request up to the empty line that ends its headers; None if it is too long."""
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > _LONGEST_HEAD:
            return None
        chunk = await stream.receive_some(_LONGEST_HEAD)
        if not chunk:
            break
        head += chunk
    return head


def _error(status: int, reason: str) -> Page:
    return Page(status=status, body=encode({"ok": False, "reasons": [reason]}).encode())


def _encoded(page: Page, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {page.status} {_REASONS.get(page.status, 'Unknown')}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        + ("Allow: GET, HEAD\r\n" if page.status == 405 else "")
        + "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (page.body if with_body else b"")
