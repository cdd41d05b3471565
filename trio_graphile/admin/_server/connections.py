"""Serves one connection: request after request, from its first byte to its last."""

from __future__ import annotations

import attrs
import h11
import trio

from trio_graphile.admin._server.exchange import Application, Exchange
from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.refusals import Refusal
from trio_graphile.admin._server.requests import Peer, refuse_head, scope_of
from trio_graphile.admin._server.wire import ClientGone, Wire


@attrs.frozen(kw_only=True)
class Service:
    """The application and limits of all connections, and the event that stops them."""

    app: Application
    limits: ServerLimits
    stopping: trio.Event


async def serve_connection(stream: trio.abc.Stream, peer: Peer, service: Service) -> None:
    """Answer the requests of a client in order; return when the connection is closed.

    A stop ends it between requests. Raises nothing that a client or the application can cause.
    """
    wire = Wire(stream, service.limits)
    try:
        while (request := await _next_request(wire, service.stopping)) is not None:
            if not await _answer(wire, request, peer, service) or not wire.start_next_request():
                break
        await wire.close()
    except ClientGone:
        return
    finally:
        await trio.aclose_forcefully(stream)


async def _next_request(wire: Wire, stopping: trio.Event) -> h11.Request | Refusal | None:
    request = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_at, stopping, nursery)
        request = await wire.read_head()
        nursery.cancel_scope.cancel()
    return request


async def _answer(wire: Wire, request: h11.Request | Refusal, peer: Peer, service: Service) -> bool:
    """Answer one request; return whether another may follow."""
    if isinstance(request, Refusal):
        return await _refuse(wire, request, service.stopping, with_body=True)
    with_body = request.method != b"HEAD"
    if (refusal := refuse_head(request, service.limits)) is not None:
        return await _refuse(wire, refusal, service.stopping, with_body=with_body)
    body = await wire.read_body()
    if isinstance(body, Refusal):
        return await _refuse(wire, body, service.stopping, with_body=with_body)
    if body is None:
        return False
    scope = scope_of(request, peer, service.stopping)
    return await Exchange(wire, scope, body, service.limits).run(service.app)


async def _refuse(wire: Wire, refusal: Refusal, stopping: trio.Event, *, with_body: bool) -> bool:
    await wire.refuse(refusal, close=True, with_body=with_body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_at, stopping, nursery)
        await wire.linger()
        nursery.cancel_scope.cancel()
    return False


async def cancel_at(stopping: trio.Event, nursery: trio.Nursery) -> None:
    """Cancel a nursery when the server stops."""
    await stopping.wait()
    nursery.cancel_scope.cancel()
