"""Login and logout in a browser: the secret is sent once, and a session follows."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, parse_qsl, unquote

import attrs
import trio
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send

from trio_graphile.admin._safety.answers import redirect, refuse, refuse_for_now
from trio_graphile.admin._safety.audit import Audit
from trio_graphile.admin._safety.authentication import Credentials, Lock
from trio_graphile.admin._safety.checks import media_type, refuse_source
from trio_graphile.admin._safety.incoming import Incoming
from trio_graphile.admin._safety.limiter import AttemptLimiter
from trio_graphile.admin._safety.login_form import LoginForm
from trio_graphile.admin._safety.sessions import BrowserSessions

PATH = "/login"
_MOST_BYTES = 16_384
_MOST_FIELDS = 10
_WRONG = "That is not right."
_FORM = "application/x-www-form-urlencoded"
_SECRET_NAMES = {"basic": "Password", "bearer": "Token", "header": "Token"}
_PLACE = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this site: without scheme and host, also as browsers read it."""


class _BodyRefused(Exception):
    """A body is refused; says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@attrs.frozen(kw_only=True)
class Desk:
    """Handles login and logout of browsers."""

    app: ASGIApp
    """The application that renders the form in the state of the scope."""
    lock: Lock
    sessions: BrowserSessions
    limiter: AttemptLimiter
    audit: Audit

    async def serve(self, incoming: Incoming, receive: Receive, send: Send) -> None:
        """Answer a request for the form, or the filled-in form."""
        if incoming.method in ("GET", "HEAD"):
            query = dict(parse_qsl(incoming.scope.get("query_string", b"").decode("latin-1")))
            await self._show(incoming, receive, send, next_place=query.get("next", ""))
        elif incoming.method == "POST":
            await self._take(incoming, receive, send)
        else:
            answer = refuse(incoming, 405, "use GET, HEAD or POST", {"allow": "GET, HEAD, POST"})
            await answer(incoming.scope, receive, send)

    def leave(self, incoming: Incoming) -> Response:
        """Log out."""
        if incoming.session is not None:
            self.sessions.end(incoming.session)
        answer = JSONResponse({"message": "logged out"})
        answer.raw_headers.append(incoming.jar.clear(incoming.jar.session))
        return answer

    async def _take(self, incoming: Incoming, receive: Receive, send: Send) -> None:
        refusal = refuse_source(incoming.headers, incoming.origins)
        answer: Response | None
        if refusal is not None:
            answer = refuse(incoming, 403, refusal)
        elif (wait := self.limiter.wait_of(incoming.client, trio.current_time())) > 0:
            answer = refuse_for_now(incoming, wait)
        else:
            try:
                fields = await _read_fields(incoming, receive)
            except _BodyRefused as error:
                answer = refuse(incoming, error.status, error.text)
            else:
                answer = self._log_in(incoming, fields)
                if answer is None:
                    await self._show(
                        incoming,
                        receive,
                        send,
                        next_place=fields.get("next", ""),
                        username=fields.get("username", ""),
                        error=_WRONG,
                    )
                    return
        await answer(incoming.scope, receive, send)

    def _log_in(self, incoming: Incoming, fields: Mapping[str, str]) -> Response | None:
        """Answer a filled-in form; None if the form is to be shown again.

        No other Trio task runs between checking the limit and counting a failure.
        """
        is_form = media_type(incoming.headers) == _FORM
        now = trio.current_time()
        if is_form and not _is_from(incoming, fields.get("token", "")):
            return refuse(incoming, 403, "token: the form is not the last one that you opened; open it again")
        if (wait := self.limiter.wait_of(incoming.client, now)) > 0:
            return refuse_for_now(incoming, wait)
        asks_for_name = self.lock.mode == "basic"
        username = fields.get("username", "") if asks_for_name else self.lock.username
        is_right = self.lock.opens(Credentials(username=username, secret=fields.get("secret", "")))
        # Not the name from the form: it may be the password.
        self.audit.record(self.lock.username, "login", (), {"client": incoming.client, "succeeded": is_right})
        if not is_right:
            self.limiter.failed(incoming.client, now)
            return None if is_form else refuse(incoming, 401, _WRONG)
        identifier = self.sessions.begin(self.lock.username, now, instead_of=incoming.session)
        place = place_after(fields.get("next", ""), incoming.base)
        answer = redirect(place) if is_form else JSONResponse({"message": "logged in", "next": place})
        answer.raw_headers.append(incoming.jar.set(incoming.jar.session, identifier))
        answer.raw_headers.append(incoming.jar.clear(incoming.jar.login))
        return answer

    async def _show(
        self,
        incoming: Incoming,
        receive: Receive,
        send: Send,
        *,
        next_place: str,
        username: str = "",
        error: str | None = None,
    ) -> None:
        # A cookie has the token, too: another site can send this form, but does not know the token.
        token = secrets.token_urlsafe(32)
        form = LoginForm(
            status=200 if error is None else 401,
            action=incoming.base + PATH,
            token=token,
            next=place_after(next_place, incoming.base),
            asks_for_name=self.lock.mode == "basic",
            secret_name=_SECRET_NAMES[self.lock.mode],
            username=username,
            error=error,
        )
        method = "GET" if incoming.method == "POST" else incoming.method
        scope = {
            **incoming.scope,
            "method": method,
            "state": {**incoming.scope.get("state", {}), "login": form},
        }
        await self.app(scope, receive, _with_cookie(send, incoming.jar.set(incoming.jar.login, token)))


def place_after(place: str, prefix: str) -> str:
    """Return the page after the login: a path of ours, whatever the request says."""
    is_ours = _PLACE.fullmatch(place) and (not prefix or place == prefix or place.startswith(f"{prefix}/"))
    # Browsers also follow encoded dots.
    path = re.split(r"[?#]", place, maxsplit=1)[0]
    return place if is_ours and ".." not in unquote(path).split("/") else f"{prefix}/"


def _is_from(incoming: Incoming, token: str) -> bool:
    cookie = incoming.cookie(incoming.jar.login)
    return cookie is not None and hmac.compare_digest(cookie.encode(), token.encode())


def _with_cookie(send: Send, cookie: tuple[bytes, bytes]) -> Send:
    async def send_with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), cookie]}
        await send(message)

    return send_with_cookie


async def _read_fields(incoming: Incoming, receive: Receive) -> Mapping[str, str]:
    """Return the fields of the form. Raises `_BodyRefused`."""
    body = await _read_body(receive)
    try:
        match media_type(incoming.headers):
            case "application/json":
                fields = json.loads(body)
            case media if media == _FORM:
                parsed = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
                fields = {name: values[-1] for name, values in parsed.items()}
            case _:
                raise _BodyRefused(403, f"Content-Type: it must be application/json or {_FORM}")
    except (ValueError, RecursionError):
        raise _BodyRefused(400, "the body cannot be read") from None
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise _BodyRefused(400, "an object of texts is needed: username, secret, next")
    return fields


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] != "http.request":
            raise _BodyRefused(400, "the body ends too early")
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise _BodyRefused(413, f"the body has over {_MOST_BYTES} bytes")
        has_more = message.get("more_body", False)
    return bytes(body)
