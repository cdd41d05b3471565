"""A request as the checks need it: its path below our prefix, its client, and its origin."""

from __future__ import annotations

from typing import Self
from urllib.parse import quote, unquote, urlsplit

import attrs
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from trio_graphile.admin._options import AdminOptions
from trio_graphile.admin._safety.checks import SAFE_METHODS, own_origins
from trio_graphile.admin._safety.cookies import CookieJar
from trio_graphile.admin._safety.proxies import client_of


@attrs.frozen(kw_only=True)
class Incoming:
    """A request, before its user is known."""

    scope: Scope = attrs.field(repr=False)
    """The scope, with the prefix and the scheme that browsers see."""
    path: str
    """The path below our prefix."""
    prefix: str
    headers: Headers = attrs.field(repr=False)
    client: str
    origins: frozenset[str]
    jar: CookieJar

    @classmethod
    def read(cls, scope: Scope, options: AdminOptions) -> Self:
        """Return the request in a scope."""
        public = urlsplit(options.public_url or "")
        headers = Headers(scope=scope)
        path, prefix = _below(scope, unquote(public.path))
        scheme = public.scheme or scope.get("scheme", "http")
        host = headers.get("host", "")
        return cls(
            scope={**scope, "path": prefix + path, "root_path": prefix, "scheme": scheme},
            path=path,
            prefix=prefix,
            headers=headers,
            client=client_of(_peer(scope), headers.getlist("x-forwarded-for"), options.trusted_proxies),
            origins=own_origins(scope.get("scheme", "http"), host, options.public_url),
            jar=CookieJar(prefix=prefix, is_secure=scheme == "https", port=_port(public.netloc or host)),
        )

    @property
    def method(self) -> str:
        """The method."""
        return str(self.scope["method"])

    @property
    def is_safe(self) -> bool:
        """Whether the method changes nothing."""
        return self.method in SAFE_METHODS

    @property
    def is_for_api(self) -> bool:
        """Whether the client expects JSON."""
        return self.path == "/api" or self.path.startswith("/api/")

    @property
    def is_for_everybody(self) -> bool:
        """Whether the answer is public: files of the pages, and whether we live."""
        return self.is_safe and (
            self.path.startswith("/static/") or self.path in ("/healthz", "/favicon.ico")
        )

    @property
    def is_visit(self) -> bool:
        """Whether it asks for a page."""
        return self.method in ("GET", "HEAD") and not self.is_for_api

    @property
    def comes_from_elsewhere(self) -> bool:
        """Whether it follows a link of another site, so that the browser left out our cookie."""
        is_other_site = self.headers.get("sec-fetch-site") in ("cross-site", "same-site")
        return is_other_site and self.headers.get("sec-fetch-mode", "navigate") == "navigate"

    @property
    def base(self) -> str:
        """Our prefix, as links have it; the prefix at which a program mounts us may depend on the request."""
        return quote(self.prefix)

    @property
    def session(self) -> str | None:
        """The identifier of the browser's session, if it sends one."""
        return self.cookie(self.jar.session)

    @property
    def target(self) -> str:
        """The path and query, as links have them."""
        query = self.scope.get("query_string", b"").decode("latin-1")
        path = quote(self.prefix + self.path)
        return f"{path}?{query}" if query else path

    def cookie(self, name: str) -> str | None:
        """Return a cookie's value."""
        return Request(self.scope).cookies.get(name) or None


def _below(scope: Scope, public: str) -> tuple[str, str]:
    """Return the path below us, and our prefix, as browsers see it.

    We may be mounted, and a proxy may strip its prefix or keep it.
    """
    mounted = str(scope.get("root_path", "")).rstrip("/")
    path = str(scope["path"])
    for known in (mounted, public):
        if known and (path == known or path.startswith(f"{known}/")):
            path = path.removeprefix(known)
            break
    return path or "/", public or mounted


def _peer(scope: Scope) -> str | None:
    client = scope.get("client")
    return str(client[0]) if client and client[0] else None


def _port(host: str) -> str:
    port = host.rpartition(":")[2]
    return f"_{port}" if port.isascii() and port.isdecimal() and ":" in host else ""
