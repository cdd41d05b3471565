"""Opens listeners for an address, and gives their URLs."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio

from trio_graphile._exceptions import OptionInvalid
from trio_graphile.admin._server.addresses import AddressUnavailable, TcpAddress, parse_address, url_of
from trio_graphile.admin._server.unix_sockets import unix_socket


@attrs.frozen(kw_only=True)
class Listening:
    """The open listeners."""

    listeners: tuple[trio.SocketListener, ...]
    urls: tuple[str, ...]
    """The URLs with the actual ports; `unix:PATH` for a socket."""


@contextlib.asynccontextmanager
async def listening_on(listen: str, *, scheme: str) -> AsyncIterator[Listening]:
    """Listen on an address until the end. Raises `OptionInvalid` and `AddressUnavailable`."""
    address = parse_address(listen)
    if isinstance(address, TcpAddress):
        listeners = await _open_tcp(address, listen)
        urls = [url_of(scheme, *listener.socket.getsockname()[:2]) for listener in listeners]
        async with contextlib.AsyncExitStack() as stack:
            for listener in listeners:
                await stack.enter_async_context(listener)
            yield Listening(listeners=tuple(listeners), urls=tuple(urls))
        return
    with unix_socket(address.path) as sock:
        async with trio.SocketListener(trio.socket.from_stdlib_socket(sock)) as listener:
            yield Listening(listeners=(listener,), urls=(f"unix:{address.path}",))


async def _open_tcp(address: TcpAddress, listen: str) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        raise AddressUnavailable(listen, error.strerror or str(error)) from error


def tls_context(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """Return the TLS context of a chain of certificates and its key. Raises `OptionInvalid`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise OptionInvalid("certificate", _flaw_of(Path(certificate), Path(key), error)) from error
    return context


def _flaw_of(certificate: Path, key: Path, error: OSError) -> str:
    """Return which file is wrong, as far as we can see: OpenSSL says almost nothing."""
    for path in (certificate, key):
        try:
            text = path.read_bytes()
        except OSError as unreadable:
            return f"{path} cannot be read: {unreadable.strerror}"
        if path == certificate and b"-----BEGIN CERTIFICATE-----" not in text:
            return f"there is no certificate in {path}, which must be a PEM file"
        if path == key and b"PRIVATE KEY-----" not in text:
            return f"there is no key in {path}, which must be a PEM file: it may stand in a file of its own"
    return f"{certificate} and {key} cannot be used together: {error}"
