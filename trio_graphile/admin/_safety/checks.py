"""Checks the source of a request. A refusal names the check, and what to set."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

CSRF_HEADER = "x-graphile-worker-admin-csrf"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:/\\@\[\]?#]+))(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def refuse_host(hosts: Sequence[str], allowed: Collection[str]) -> str | None:
    """Return why the Host headers of a request are not ours; None if they may be.

    If another site has its name point here, its requests have that name in Host. Nobody can have an IP
    address, or localhost, point elsewhere.
    """
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None:
        return "Host: one name or address is needed"
    name = (match["name"] or "").lower().rstrip(".")
    if match["ipv6"] or name == "localhost" or name in allowed or _is_address(name):
        return None
    return (
        f"Host: {name!a} is not allowed here: set --allowed-host (allowed_hosts) or --public-url (public_url)"
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def own_origins(scheme: str, host: str, public_url: str | None) -> frozenset[str]:
    """Return the values with which browsers name us in the Origin header."""
    origins = {_origin(scheme, host)}
    if public_url is not None:
        url = urlsplit(public_url)
        origins.add(_origin(url.scheme, url.netloc))
    return frozenset(origins)


def _origin(scheme: str, host: str) -> str:
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


def refuse_source(headers: Headers, origins: Collection[str]) -> str | None:
    """Return why the source of a request that may change something is refused."""
    for site in headers.getlist("sec-fetch-site"):
        if site != "same-origin":
            return f"Sec-Fetch-Site: {site!a} is another site's request: use the admin's own pages"
    for origin in headers.getlist("origin"):
        if origin.lower() not in origins:
            return f"Origin: {origin!a} is not {' or '.join(sorted(origins))}: set --public-url (public_url)"
    return None


def refuse_reader(headers: Headers) -> str | None:
    """Return why another site may not read the API through a user's browser."""
    for site in headers.getlist("sec-fetch-site"):
        if site in ("cross-site", "same-site"):
            return f"Sec-Fetch-Site: {site!a} is another site's request, and the API answers none"
    return None


def refuse_content_type(headers: Headers) -> str | None:
    """Return why a body is refused for its type: forms of other sites have other types."""
    values = headers.getlist("content-type")
    if len(values) == 1 and media_type(headers) == "application/json":
        return None
    return "Content-Type: it must be application/json"


def media_type(headers: Headers) -> str:
    """Return the type of a body, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_token(headers: Headers, token: str) -> str | None:
    """Return why the token of a request does not show a page of ours."""
    values = headers.getlist(CSRF_HEADER)
    if len(values) == 1 and hmac.compare_digest(values[0].encode(), token.encode()):
        return None
    return f"{CSRF_HEADER}: it must be the csrf_token of api/session, another one after a restart"
