"""The two ends of a session: how long they keep it, what is between them, whether the server is down."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import select
import socket
import struct
from typing import Any

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import ConnectionLost

_INTERNET = {socket.AF_INET, socket.AF_INET6}

KEEP_OPEN = Statement("""
    select set_config(settings.name, wanted.value, false)
    from unnest($1::text[], $2::text[]) as wanted(name, value)
    join pg_settings as settings on settings.name = wanted.name
""")  # $1 names of settings, $2 their values. Servers before PostgreSQL 14 do not have all of them.


async def keep_open(connection: Connection, seconds: float) -> None:
    """Have the server and our own system keep a session that is silent for so long at least."""
    part = str(math.ceil(seconds / 4))  # asked after one of silence, given up after four more
    wanted = {
        "idle_session_timeout": "0",
        "tcp_keepalives_idle": part,
        "tcp_keepalives_interval": part,
        "tcp_keepalives_count": "4",
        "tcp_user_timeout": str(math.ceil(seconds * 1250)),  # in milliseconds
    }
    await connection.fetch(KEEP_OPEN, list(wanted), list(wanted.values()))
    if (ours := connection.socket) is not None and ours.family in _INTERNET:
        _keep_silent(ours, math.ceil(seconds * 1.25))


_LONGEST_IDLE = 32_767
"""The longest silence after which Linux can be told to ask for a sign of life, in seconds."""


def _keep_silent(ours: socket.socket, seconds: int) -> None:
    """Have our system keep a session that is silent for so long, as far as it can be told to."""
    # However soon it asks for a sign of life: with the second option, it waits for one as long as we say.
    idle = min(seconds, _LONGEST_IDLE)
    for name, value in (("TCP_KEEPIDLE", idle), ("TCP_USER_TIMEOUT", seconds * 1000)):
        if (number := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):  # the session is lost, as its next statement says
                ours.setsockopt(socket.IPPROTO_TCP, number, value)


@attrs.frozen
class ServerEnd:
    """Where a server has one of our sessions."""

    family: int
    address: Any
    """As its socket has it."""


BOTH_ENDS = Statement("""
    select host(inet_client_addr()) as our_address, inet_client_port() as our_port,
      host(inet_server_addr()) as server_address, inet_server_port() as server_port
""")  # all null for a UNIX socket


async def find_server_end(connection: Connection) -> ServerEnd | None:
    """Return where the server is; None if something seems to be between the two ends of the session.

    They see the same addresses and ports if there is no proxy that answers in place of either, and nothing
    that translates addresses. Raises `DatabaseError`.
    """
    [row] = await connection.fetch(BOTH_ENDS)
    if (ours := connection.socket) is None:
        return None
    try:
        here, there = ours.getsockname(), ours.getpeername()
    except OSError as error:  # it was reset since the answer
        raise ConnectionLost(f"the session was lost: {error}") from error
    seen_there = [(row["our_address"], row["our_port"]), (row["server_address"], row["server_port"])]
    seen_here = [here[:2], there[:2]] if ours.family in _INTERNET else [(None, None)] * 2
    is_direct = [_plain(*end) for end in seen_there] == [_plain(*end) for end in seen_here]
    return ServerEnd(ours.family, there) if is_direct else None


def _plain(host: str | None, port: int | None) -> tuple[str, int | None]:
    """Return an address and a port in one way of writing: without a zone, and IPv4 not as IPv6."""
    with contextlib.suppress(ValueError):
        parsed = ipaddress.ip_address(str(host).partition("%")[0])
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return str(mapped or parsed), port
    return str(host), port


def has_nothing_to_read(connection: Connection) -> bool:
    """Whether our system has a session, and knows nothing of its end; False if that cannot be seen."""
    if (ours := connection.socket) is None or ours.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(ours.fileno(), select.POLLIN)
    return not poll.poll(0)


_LETS_NOBODY_IN = b"C57P03\0"
"""The code in the answer of a server that starts, recovers or stops."""


async def lets_nobody_in(end: ServerEnd) -> bool:
    """Whether no server is there any more, or only one that starts or stops; False if that cannot be told.

    Waits for an answer without a limit: the caller sets one.
    """
    with contextlib.suppress(OSError), trio.socket.socket(end.family, socket.SOCK_STREAM) as asking:
        try:
            await asking.connect(end.address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return _LETS_NOBODY_IN in await _first_words(asking)
    return False


_PROTOCOL = 196_608
"""The version of the protocol, 3.0."""
_LONGEST_ANSWER = 4096
"""How much of an answer is read, in bytes."""


async def _first_words(asking: trio.socket.SocketType) -> bytes:
    """Ask to be let in, and return the first message of the server. One that lets nobody in says so first."""
    who = b"user\0trio_graphile\0\0"
    await asking.send(struct.pack("!ii", 8 + len(who), _PROTOCOL) + who)
    said = b""
    while len(said) < _LONGEST_ANSWER and (more := await asking.recv(_LONGEST_ANSWER)):
        said += more
        # A message begins with a byte for its kind, and its length without that byte.
        if len(said) > 4 and len(said) > struct.unpack_from("!i", said, 1)[0]:
            break
    return said
