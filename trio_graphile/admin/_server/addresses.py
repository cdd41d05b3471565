"""Addresses to listen on: their text, and the error if one is not available."""

from __future__ import annotations

import re
from typing import TypeAlias

import attrs

from trio_graphile._exceptions import GraphileError, OptionInvalid
from trio_graphile._model.validators import check_kind

_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]]*)):(?P<port>[0-9]{1,5})"
)


class AddressUnavailable(GraphileError):
    """We cannot listen on an address: it is in use, or we lack the right.

    `listen` is the address as it was given, `reason` the error of the system.
    """

    def __init__(self, listen: str, reason: str) -> None:
        super().__init__(listen, reason)
        self.listen = listen
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot listen on {self.listen}: {self.reason}"


@attrs.frozen
class TcpAddress:
    """A host and a port; no host means all addresses of the machine, port 0 any free port."""

    host: str | None
    port: int


@attrs.frozen
class UnixAddress:
    """The path of a UNIX socket."""

    path: str


Address: TypeAlias = TcpAddress | UnixAddress


def parse_address(listen: str) -> Address:
    """Read `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `unix:PATH`. Raises `OptionInvalid`."""
    check_kind("listen", listen, str, '":8000"')
    if listen.startswith("unix:"):
        return _unix_address(listen.removeprefix("unix:"))
    match = _HOST_AND_PORT.fullmatch(listen)
    if match is None or int(match["port"]) > 65_535:
        raise OptionInvalid("listen", f"{listen!r} is none of HOST:PORT, [IPV6]:PORT, :PORT and unix:PATH")
    return TcpAddress(match["ipv6"] or match["host"] or None, int(match["port"]))


def _unix_address(path: str) -> UnixAddress:
    if not path or "\0" in path:
        raise OptionInvalid("listen", "unix: needs the path of a socket")
    return UnixAddress(path)


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL of an address on which we listen."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
