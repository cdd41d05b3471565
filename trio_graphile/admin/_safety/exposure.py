"""Checks whether an address may be served without a login."""

from __future__ import annotations

import ipaddress

from trio_graphile._exceptions import OptionInvalid
from trio_graphile.admin._options import Mode
from trio_graphile.admin._server.addresses import UnixAddress, parse_address


def check_exposure(mode: Mode, listen: str) -> None:
    """Raise `OptionInvalid` if other machines could reach an admin without a login.

    Host names are refused, too, since their addresses may change.
    """
    address = parse_address(listen)
    if mode != "none" or isinstance(address, UnixAddress):
        return
    if address.host is None or not _is_loopback(address.host):
        raise OptionInvalid(
            "auth", f"none is for loopback addresses and unix sockets alone, such as 127.0.0.1, not {listen}"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
