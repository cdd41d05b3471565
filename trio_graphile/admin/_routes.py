"""All routes of the admin, behind the checks."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_graphile.admin import _pages
from trio_graphile.admin._api import routes as _api
from trio_graphile.admin._context import Context


def make_router(context: Context) -> ASGIApp:
    """Return the router, which raises `HTTPException` for unknown paths."""
    router = Router(list_routes(context), redirect_slashes=False, default=_find_nothing)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        # If we are mounted, the scope has the program's application with its error pages.
        alone = {**scope, "app": router, "starlette.exception_handlers": ({}, {})}
        await router(alone, receive, send)

    return route


def list_routes(context: Context) -> list[BaseRoute]:
    """Return the routes, path by path."""
    # This only says that we serve. It does not ask the database, whose outage is no reason to restart us.
    health = Route("/healthz", JSONResponse({"status": "ok"}), methods=["GET"])
    return [health, *_api.routes(context), *_pages.routes(context)]


def _find_nothing(_scope: Scope, _receive: Receive, _send: Send) -> Awaitable[None]:
    raise HTTPException(404)
