"""Who a request comes from, if proxies stand between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

UNIX = "unix"
"""What a client is called that is connected by a socket file."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_of(peer: str | None, forwarded_for: Sequence[str], trusted: Iterable[str]) -> str:
    """Return the address of the client.

    `peer` is who is connected to us, `forwarded_for` the values of X-Forwarded-For. Each proxy appends whom
    it got the request from: read from the right, the first address that is not a trusted proxy's is as far
    as anybody can be believed.
    """
    trusted = frozenset(trusted)
    client = UNIX if peer is None else peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and _is_trusted(client, trusted):
        address = _address(hops.pop())
        if address is None:
            return client  # a trusted proxy that wrote no address: the last one that is sure
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
