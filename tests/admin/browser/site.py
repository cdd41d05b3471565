"""The real admin, served on a port of its own: at the root, mounted below a prefix, or behind a proxy."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_graphile import Client
from trio_graphile.admin import Admin, AdminOptions, LoginOptions, serve_admin

PREFIX = "/ops/queue"
OPEN = LoginOptions(mode="none")


class Place(enum.StrEnum):
    """Where the admin stands."""

    ROOT = "root"
    MOUNTED = "mounted"
    PROXIED = "proxied"
    """Below a prefix that a proxy takes away."""


@attrs.define
class _Later:
    """An application that is known once its address is."""

    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@attrs.frozen
class _Proxy:
    """Takes the prefix away, as a proxy does before it passes a request on."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, raw = scope["path"], scope["raw_path"]
        if not path.startswith(f"{PREFIX}/"):
            raise NotImplementedError(f"the proxy passes only {PREFIX} on, not {path}")
        passed = {"path": path.removeprefix(PREFIX), "raw_path": raw.removeprefix(PREFIX.encode())}
        await self.app({**scope, **passed}, receive, send)


@asynccontextmanager
async def serving(
    client: Client, *, place: Place = Place.ROOT, options: AdminOptions | None = None
) -> AsyncIterator[str]:
    """Lend the address of an admin; without options nobody has to log in."""
    options = options or AdminOptions(login=OPEN)
    later = _Later()
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(serve_admin, later, "127.0.0.1:0"))
        prefix = "" if place is Place.ROOT else PREFIX
        if place is Place.PROXIED:
            options = attrs.evolve(options, public_url=f"{address}{prefix}")
        admin = Admin(client, options)
        await nursery.start(admin.run)
        apps: dict[Place, ASGIApp] = {
            Place.ROOT: admin,
            Place.MOUNTED: Starlette(routes=[Mount(PREFIX, admin)]),
            Place.PROXIED: _Proxy(admin),
        }
        later.app = apps[place]
        yield f"{address}{prefix}"
        nursery.cancel_scope.cancel()
