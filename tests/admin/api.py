"""The API as a client sees it, without a server, and with whatever access a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx2
import trio
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_graphile._client import Client
from trio_graphile.admin._api.routes import routes
from trio_graphile.admin._context import Context
from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._options import EVERYTHING, Access, AdminOptions
from trio_graphile.admin._safety.audit import Audit

ADA = Access("ada", EVERYTHING)
LISTED = {
    "id", "task_identifier", "queue_name", "payload", "priority", "run_at", "attempts", "max_attempts",
    "last_error", "created_at", "updated_at", "key", "locked_at", "locked_by", "revision", "flags",
    "is_available",
}  # fmt: skip
JOB = {
    "id", "task_id", "task_identifier", "job_queue_id", "payload", "priority", "run_at", "attempts",
    "max_attempts", "last_error", "created_at", "updated_at", "key", "revision", "locked_at", "locked_by",
    "flags",
}  # fmt: skip
"""What scripts for the port know, and more may stand beside it."""


@attrs.frozen
class Ledger(Audit):
    """Keeps what is audited."""

    entries: list[tuple[str, str, list[int], Mapping[str, Any]]] = attrs.field(factory=list)

    def record(self, user: str, action: str, ids: Sequence[int], outcome: Mapping[str, Any]) -> None:
        self.entries.append((user, str(action), [*ids], outcome))


@attrs.frozen
class As:
    """Lets requests through as if somebody had shown who they are."""

    app: ASGIApp
    access: Access
    stopping: trio.Event | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        state["access"] = self.access
        state["csrf_token"] = "token"
        state["stopping"] = self.stopping
        await self.app(scope, receive, send)


@attrs.frozen
class Api:
    """A client of the API."""

    http: httpx2.AsyncClient
    ledger: Ledger

    async def get(self, path: str, **query: Any) -> Any:
        """Return what a path answers."""
        response = await self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, **body: Any) -> Any:
        """Return what a path answers to a body."""
        response = await self.http.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()


@asynccontextmanager
async def open_api(
    client: Client,
    access: Access = ADA,
    *,
    options: AdminOptions | None = None,
    looks: Looks | None = None,
    stopping: trio.Event | None = None,
) -> AsyncIterator[Api]:
    """Lend a client of the API."""
    ledger = Ledger()
    context = Context(
        looks=looks, client=client, database=client.database, options=options or AdminOptions(), audit=ledger
    )
    app = As(Starlette(routes=routes(context)), access, stopping)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield Api(http, ledger)
