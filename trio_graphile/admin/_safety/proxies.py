"""The client of a request behind proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

UNIX = "unix"
"""The name of clients that connect by a socket file."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_of(peer: str | None, forwarded_for: Sequence[str], trusted: Iterable[str]) -> str:
    """Return the address of the client.

    `peer` is connected to us, `forwarded_for` are the values of X-Forwarded-For. Each proxy appends the
    address from which it got the request. Read from the right, the first address that is not a trusted proxy
    is the last one that can be trusted.
    """
    trusted = frozenset(trusted)
    client = UNIX if peer is None else peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and _is_trusted(client, trusted):
        address = _address(hops.pop())
        if address is None:
            return client  # the trusted proxy wrote no address
        client = str(address)
    return client


def _is_trusted(client: str, trusted: frozenset[str]) -> bool:
    if client == UNIX:
        return UNIX in trusted
    address = _address(client)
    return address is not None and any(
        address in ipaddress.ip_network(network) for network in trusted if network != UNIX
    )


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
