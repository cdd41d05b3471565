"""A guarded application that says what it sees, for tests of the checks before it."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx2
import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_graphile.admin._options import Access, AdminOptions, LoginOptions, Mode
from trio_graphile.admin._safety.answering import StrictAnswers
from trio_graphile.admin._safety.audit import Audit
from trio_graphile.admin._safety.authentication import Lock
from trio_graphile.admin._safety.checks import CSRF_HEADER
from trio_graphile.admin._safety.guard import Guard

SECRET = "swordfish-1"
HOST = "http://127.0.0.1:5678"
BASIC = {"authorization": f"Basic {base64.b64encode(f'admin:{SECRET}'.encode()).decode()}"}
BEARER = {"authorization": f"Bearer {SECRET}"}
OWN_HEADER = {"x-graphile-worker-admin-token": SECRET}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
CREDENTIALS: dict[Mode, dict[str, str]] = {
    "basic": BASIC,
    "bearer": BEARER,
    "header": OWN_HEADER,
    "none": {},
}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the guard says of a request; counts as something that was done."""
    request = Request(scope, receive)
    answer: Response
    if hasattr(request.state, "login"):
        form = request.state.login
        answer = HTMLResponse(f"{form.token}|{form.next}|{form.error}|{form.action}", form.status)
    else:
        access: Access | None = getattr(request.state, "access", None)
        seen: dict[str, Any] = {
            "user": None if access is None else access.user,
            "may": [] if access is None else sorted(access.may),
            "client": getattr(request.state, "client", None),
            "csrf_token": getattr(request.state, "csrf_token", None),
            "may_log_out": getattr(request.state, "may_log_out", False),
            "path": scope["path"],
            "root_path": scope["root_path"],
            "scheme": scope["scheme"],
        }
        answer = JSONResponse(seen)
    await answer(scope, receive, send)


def options_of(mode: Mode = "basic", **changes: Any) -> AdminOptions:
    return AdminOptions(login=LoginOptions(mode=mode, secret=SECRET), **changes)


def guarded(mode: Mode = "basic", **changes: Any) -> ASGIApp:
    options = options_of(mode, **changes)
    guard = Guard(app=echo, options=options, lock=Lock.of(options.login, SECRET), audit=Audit())
    return StrictAnswers(guard)


def browser(
    app: ASGIApp, *, client: str = "127.0.0.1", base_url: str = HOST, root_path: str = ""
) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, client=(client, 50_000), root_path=root_path)
    return httpx2.AsyncClient(transport=transport, base_url=base_url)


async def log_in(visitor: httpx2.AsyncClient, *, secret: str = SECRET, **fields: str) -> httpx2.Response:
    """Fill in the form."""
    form = await visitor.get("/login")
    token = form.text.partition("|")[0]
    filled = {"username": "admin", "secret": secret, "token": token, **fields}
    return await visitor.post("/login", data=filled)


async def csrf_token(visitor: httpx2.AsyncClient, headers: dict[str, str] | None = None) -> str:
    answer = await visitor.get("/api/session", headers=headers)
    return str(answer.json()["csrf_token"])


async def writing(visitor: httpx2.AsyncClient, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Headers with which a page's script would change something."""
    own = headers or {}
    return {
        **own,
        **JSON,
        CSRF_HEADER: await csrf_token(visitor, own),
        "sec-fetch-site": "same-origin",
        "origin": HOST,
    }


def set_cookies(answer: httpx2.Response) -> dict[str, str]:
    """The Set-Cookie headers by name."""
    return {re.split("=", line, maxsplit=1)[0]: line for line in answer.headers.get_list("set-cookie")}


async def pass_time(seconds: float) -> None:
    """Let a mock clock jump."""
    await trio.sleep(seconds)
