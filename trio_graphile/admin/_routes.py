"""All that the admin serves, behind the checks."""

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
    """Return what finds the function for a path, and raises `HTTPException` where there is none."""
    router = Router(list_routes(context), redirect_slashes=False, default=_find_nothing)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        # If we are mounted, the program's own application and its error pages stand in the scope.
        alone = {**scope, "app": router, "starlette.exception_handlers": ({}, {})}
        await router(alone, receive, send)

    return route


def list_routes(context: Context) -> list[BaseRoute]:
    """Return what is served, path by path."""
    # Whether we serve. Nobody else is asked: an outage of the database is no reason to restart us.
    health = Route("/healthz", JSONResponse({"status": "ok"}), methods=["GET"])
    return [health, *_api.routes(context), *_pages.routes(context)]


def _find_nothing(_scope: Scope, _receive: Receive, _send: Send) -> Awaitable[None]:
    raise HTTPException(404)
