"""The server: accepting is nested inside of connections, so that a stop ends it first."""

from __future__ import annotations

import contextlib
import errno
import logging
import ssl

import trio

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.validators import check_kind, described
from trio_graphile.admin._server.connections import Service, cancel_at, serve_connection
from trio_graphile.admin._server.exchange import Application
from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.listening import listening_on
from trio_graphile.admin._server.requests import Peer

_logger = logging.getLogger("trio_graphile.admin")

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPT_DELAY = 0.1  # after a connection that could not be accepted


async def serve_admin(
    app: Application,
    listen: str,
    *,
    limits: ServerLimits | None = None,
    tls: ssl.SSLContext | None = None,
    stopping: trio.Event | None = None,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application, `Admin` or any other, by HTTP/1.1 on `listen` until `stopping` is set.

    `listen` is `HOST:PORT`, `[IPV6]:PORT`, `:PORT` for all addresses of the machine, or `unix:PATH`, a socket
    with mode 0600 that is removed at the end. `task_status` is given the URLs that are listened on.

    Once `stopping` is set, nothing is accepted any more; idle connections end at once; event streams
    get `http.disconnect` and `limits.farewell_period` to end by themselves; requests under way have
    `limits.grace_period`. Applications find the event in `scope["state"]["stopping"]`. If cancelled, all of
    this ends at once. No client can hold either up: nothing is shielded.

    Lifespan and WebSocket are not served. Raises `OptionInvalid` and `AddressUnavailable`.
    """
    limits = ServerLimits() if limits is None else limits
    _check(app, limits, tls, stopping)
    service = Service(app=app, limits=limits, stopping=trio.Event() if stopping is None else stopping)
    places = trio.Semaphore(limits.connections)
    scheme = "http" if tls is None else "https"
    async with contextlib.AsyncExitStack() as stack:
        # Outside of the nurseries, so that this raises without a group.
        listening = await stack.enter_async_context(listening_on(listen, scheme=scheme))
        doors = [_Door(listener, tls, places, service) for listener in listening.listeners]
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for door in doors:
                    accepting.start_soon(door.accept, connections, name=f"accepting on {listen}")
                task_status.started(listening.urls)
                await service.stopping.wait()
                accepting.cancel_scope.cancel()
            await stack.aclose()  # no client can connect any more
            connections.cancel_scope.deadline = trio.current_time() + limits.grace_period


def _check(app: object, limits: object, tls: object, stopping: object) -> None:
    """Raise `OptionInvalid` for what would fail at a connection, or at the end."""
    if not callable(app):
        raise OptionInvalid("app", f"an ASGI application is needed, not {described(app)}")
    check_kind("limits", limits, ServerLimits)
    for name, value, kind in (("tls", tls, ssl.SSLContext), ("stopping", stopping, trio.Event)):
        if value is not None:
            check_kind(name, value, kind)


class _Door:
    """One listener and its connections."""

    def __init__(
        self,
        listener: trio.SocketListener,
        tls: ssl.SSLContext | None,
        places: trio.Semaphore,
        service: Service,
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._places = places
        self._service = service

    async def accept(self, connections: trio.Nursery) -> None:
        """Accept until cancelled. If there is no place, the next client waits, and all behind it."""
        while True:
            stream = await self._next_stream()
            try:
                await self._places.acquire()
            except BaseException:
                stream.socket.close()
                raise
            connections.start_soon(self._serve, stream, name="connection")

    async def _next_stream(self) -> trio.SocketStream:
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _logger.error("no connection can be accepted for now: %s", error.strerror)  # noqa: TRY400
                await trio.sleep(_ACCEPT_DELAY)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            peer = _peer(stream, self._tls)
            secured = stream if self._tls is None else await self._shake_hands(stream, self._tls)
            if peer is not None and secured is not None:
                await serve_connection(secured, peer, self._service)
        finally:
            self._places.release()
            await trio.aclose_forcefully(stream)

    async def _shake_hands(
        self, stream: trio.SocketStream, tls: ssl.SSLContext
    ) -> trio.SSLStream[trio.SocketStream] | None:
        secured = trio.SSLStream(stream, tls, server_side=True)
        done = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_at, self._service.stopping, nursery)
            with trio.move_on_after(self._service.limits.head_timeout):
                done = await _handshake(secured)
            nursery.cancel_scope.cancel()
        return secured if done else None


async def _handshake(secured: trio.SSLStream[trio.SocketStream]) -> bool:
    try:
        await secured.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        return False
    return True


def _peer(stream: trio.SocketStream, tls: ssl.SSLContext | None) -> Peer | None:
    """Return the ends of a connection, or None if it is closed."""
    scheme = "http" if tls is None else "https"
    try:
        client, server = stream.socket.getpeername(), stream.socket.getsockname()
    except OSError:
        return None
    if stream.socket.family == trio.socket.AF_UNIX:
        return Peer(scheme=scheme, server=(server, None))
    return Peer(scheme=scheme, client=tuple(client[:2]), server=tuple(server[:2]))
