"""The checks of each request, one after the other. The application then sees the user.

Host 421, attempts 429, credentials 401, other sites 403, access 403; then the path itself.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from typing import TypeAlias
from urllib.parse import quote, urlsplit

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_graphile.admin._options import EVERYTHING, READING, Access, AdminOptions
from trio_graphile.admin._safety import checks
from trio_graphile.admin._safety.answers import hop, redirect, refuse, refuse_for_now
from trio_graphile.admin._safety.audit import Audit
from trio_graphile.admin._safety.authentication import CHALLENGE, Lock
from trio_graphile.admin._safety.incoming import Incoming
from trio_graphile.admin._safety.limiter import AttemptLimiter
from trio_graphile.admin._safety.login import PATH as LOGIN
from trio_graphile.admin._safety.login import Desk
from trio_graphile.admin._safety.sessions import BrowserSessions

LOGOUT = "/logout"


@attrs.frozen(kw_only=True)
class Visitor:
    """The user of a request, and how we know."""

    access: Access
    bond: str
    """The session or user to which the CSRF token is bound."""
    is_sent_by_browsers: bool = True
    """Whether a browser would send the same credentials for another site."""
    may_log_out: bool = False
    access_ended: trio.Event | None = None
    """Set when the session ends early, for answers that go on; None if it cannot end."""
    access_ends_at: float | None = None
    """When the session ends at the latest, by Trio's clock."""


_Verdict: TypeAlias = Visitor | Response


@attrs.frozen(kw_only=True)
class Guard:
    """Admits requests to an application, and puts the user into the state of their scope."""

    app: ASGIApp
    options: AdminOptions
    lock: Lock
    audit: Audit
    limiter: AttemptLimiter = attrs.field(factory=AttemptLimiter)
    sessions: BrowserSessions = attrs.field()
    desk: Desk = attrs.field(init=False)
    _hosts: frozenset[str] = attrs.field(init=False)
    _key: bytes = attrs.field(init=False, repr=False, factory=lambda: secrets.token_bytes(32))

    @sessions.default
    def _make_sessions(self) -> BrowserSessions:
        login = self.options.login
        return BrowserSessions(length=login.session_length, idle=login.session_idle)

    @desk.default
    def _make_desk(self) -> Desk:
        return Desk(
            app=self.app, lock=self.lock, sessions=self.sessions, limiter=self.limiter, audit=self.audit
        )

    @_hosts.default
    def _list_hosts(self) -> frozenset[str]:
        public = urlsplit(self.options.public_url or "").hostname
        return frozenset({*self.options.allowed_hosts, *([public] if public else [])})

    @property
    def _has_login(self) -> bool:
        return self.options.authorize is None and self.lock.mode != "none"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = Incoming.read(scope, self.options)
        refusal = checks.refuse_host(incoming.headers.getlist("host"), self._hosts)
        if refusal is not None:
            await refuse(incoming, 421, refusal)(incoming.scope, receive, send)
        elif incoming.is_for_everybody:
            await self.app(incoming.scope, receive, send)
        elif incoming.path == LOGIN and self._has_login:
            await self.desk.serve(incoming, receive, send)
        else:
            admitted = await self._admit(incoming)
            if isinstance(admitted, Response):
                await admitted(incoming.scope, receive, send)
            else:
                await self.app(self._scope_for(admitted, incoming), receive, send)

    def _scope_for(self, visitor: Visitor, incoming: Incoming) -> Scope:
        state = {
            **incoming.scope.get("state", {}),
            "access": visitor.access,
            "client": incoming.client,
            "csrf_token": self._token_of(visitor),
            "may_log_out": visitor.may_log_out,
            "access_ended": visitor.access_ended,
            "access_ends_at": visitor.access_ends_at,
        }
        return {**incoming.scope, "state": state}

    def _token_of(self, visitor: Visitor) -> str:
        return hmac.new(self._key, visitor.bond.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    async def _admit(self, incoming: Incoming) -> _Verdict:
        visitor = await self._recognize(incoming)
        if isinstance(visitor, Response):
            return visitor
        refusal = self._refuse_forgery(visitor, incoming)
        if refusal is not None:
            return refuse(incoming, 403, refusal)
        if incoming.path == LOGOUT and visitor.may_log_out and incoming.method == "POST":
            return self.desk.leave(incoming)
        if not incoming.is_safe and not visitor.access.may:
            return refuse(incoming, 403, "this is read-only: nothing can be changed here")
        if incoming.path == LOGIN:  # there is no login, or it would not help
            return redirect(f"{incoming.base}/")
        return visitor

    def _refuse_forgery(self, visitor: Visitor, incoming: Incoming) -> str | None:
        if incoming.is_safe:
            return checks.refuse_reader(incoming.headers) if incoming.is_for_api else None
        refusal = checks.refuse_source(incoming.headers, incoming.origins)
        refusal = refusal or checks.refuse_content_type(incoming.headers)
        if refusal is None and visitor.is_sent_by_browsers:
            refusal = checks.refuse_token(incoming.headers, self._token_of(visitor))
        return refusal

    # --- who asks ---------------------------------------------------------------------------------

    async def _recognize(self, incoming: Incoming) -> _Verdict:
        if self.options.authorize is not None:
            access = await self.options.authorize(Request(incoming.scope))
            if access is None:
                return self._turn_away(incoming)
            return Visitor(access=self._limited(access), bond=f"user {access.user}")
        if self.lock.mode == "none":
            return self._anybody(incoming)
        return self._by_credentials(incoming) or self._by_session(incoming) or self._turn_away(incoming)

    def _limited(self, access: Access) -> Access:
        return attrs.evolve(access, may=READING) if self.options.read_only else access

    def _own(self) -> Access:
        return self._limited(Access(self.lock.username, EVERYTHING))

    def _anybody(self, incoming: Incoming) -> _Verdict:
        if not is_local(incoming.scope):
            return refuse(incoming, 403, "--auth: none is for loopback addresses and unix sockets alone")
        return Visitor(access=self._own(), bond="anybody")

    def _by_credentials(self, incoming: Incoming) -> _Verdict | None:
        """Return the user of a name and a secret. The limit of attempts is checked before the secret."""
        shown = self.lock.shown_in(incoming.headers)
        if shown is None:
            return None
        now = trio.current_time()
        if (wait := self.limiter.wait_of(incoming.client, now)) > 0:
            return refuse_for_now(incoming, wait)
        if not self.lock.opens(shown):
            self.limiter.failed(incoming.client, now)
            self.audit.record(
                self.lock.username, "login", (), {"client": incoming.client, "succeeded": False}
            )
            return self._unauthorized(incoming)
        return Visitor(
            access=self._own(),
            bond=f"user {self.lock.username}",
            is_sent_by_browsers=shown.is_sent_by_browsers,
        )

    def _by_session(self, incoming: Incoming) -> Visitor | None:
        identifier = incoming.session
        user = None if identifier is None else self.sessions.user_of(identifier, trio.current_time())
        if user is None or identifier is None:
            return None
        ended, ends_at = self.sessions.end_of(identifier)
        return Visitor(
            access=self._limited(Access(user, EVERYTHING)),
            bond=f"session {identifier}",
            may_log_out=True,
            access_ended=ended,
            access_ends_at=ends_at,
        )

    def _turn_away(self, incoming: Incoming) -> Response:
        if incoming.is_visit and incoming.comes_from_elsewhere:
            return hop()
        if incoming.is_visit and self._has_login:
            return redirect(f"{incoming.base}{LOGIN}?next={quote(incoming.target, safe='')}")
        return self._unauthorized(incoming)

    def _unauthorized(self, incoming: Incoming) -> Response:
        has_challenge = self._has_login and self.lock.mode == "basic" and incoming.is_for_api
        headers = {"www-authenticate": CHALLENGE} if has_challenge else None
        return refuse(incoming, 401, "unauthorized", headers)


def is_local(scope: Scope) -> bool:
    """Return whether a request came to an address of this machine alone, or by a socket.

    If the server does not say to which address, it did not.
    """
    server = scope.get("server")
    if not server:
        return False
    if server[1] is None:
        return True
    try:
        return ipaddress.ip_address(str(server[0]).partition("%")[0]).is_loopback
    except ValueError:
        return str(server[0]) == "localhost"
