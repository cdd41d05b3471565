"""Limits how often a client may guess a secret."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Sequence

import attrs

_PERIOD = 60.0
_MOST_FAILURES_OF_ONE = 5  # of one client, in a period
_MOST_FAILURES_OF_ALL = 30  # of all clients together, in a period
_MOST_CLIENTS = 10_000
_IPV6_NETWORK = 64
"""The bits of an IPv6 address that identify a client, which owns all addresses below."""


@attrs.define(eq=False)
class AttemptLimiter:
    """Counts failures by client, and of all clients. Times are seconds of any one clock."""

    _by_client: OrderedDict[str, deque[float]] = attrs.field(init=False, factory=OrderedDict)
    _of_all: deque[float] = attrs.field(init=False, factory=lambda: deque(maxlen=_MOST_FAILURES_OF_ALL))

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._by_client)

    def wait_of(self, client: str, now: float) -> float:
        """Return after how many seconds a client may try again; 0 if it may now."""
        own = self._by_client.get(network_of(client), ())
        return max(
            _wait(own, _MOST_FAILURES_OF_ONE, now),
            _wait(self._of_all, _MOST_FAILURES_OF_ALL, now),
        )

    def failed(self, client: str, now: float) -> None:
        """Count a wrong secret."""
        network = network_of(client)
        own = self._by_client.setdefault(network, deque(maxlen=_MOST_FAILURES_OF_ONE))
        own.append(now)
        self._of_all.append(now)
        self._by_client.move_to_end(network)
        if len(self._by_client) > _MOST_CLIENTS:
            self._by_client.popitem(last=False)


def _wait(failures: Sequence[float], most: int, now: float) -> float:
    return max(0.0, failures[0] + _PERIOD - now) if len(failures) == most else 0.0


def network_of(client: str) -> str:
    """Return the network that counts as one client."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _IPV6_NETWORK), strict=False))
