"""A UNIX socket that only its owner can open, and that does not outlive its server."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from trio_graphile.admin._server.addresses import AddressUnavailable

_BACKLOG_SIZE = 128  # connections that wait to be accepted
_MODE = 0o600  # its owner alone may connect


@contextlib.contextmanager
def unix_socket(path: str) -> Iterator[socket.socket]:
    """Listen at a path, with mode 0600; remove the socket at the end, unless it was replaced.

    Replaces a socket on which nobody listens. Raises `AddressUnavailable` for one in use, and for any other
    file there.
    """
    with _reasons(path):
        _remove_stale(path)
        sock = _bind(path)
    with contextlib.closing(sock), contextlib.ExitStack() as stack:
        stack.callback(_remove, path, os.lstat(path))
        with _reasons(path):
            # Outside of Linux only the umask has decided so far, but no client can connect before `listen`.
            Path(path).chmod(_MODE)
            sock.listen(_BACKLOG_SIZE)
        yield sock


def _remove(path: str, made: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), made):
            Path(path).unlink()


@contextlib.contextmanager
def _reasons(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AddressUnavailable(f"unix:{path}", error.strerror or str(error)) from error


def _bind(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(OSError):  # not every system can do this
            os.fchmod(sock.fileno(), _MODE)  # on Linux, this is the mode of the file
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise AddressUnavailable(f"unix:{path}", "what is there is no socket")
    if _is_listened_on(path):
        raise AddressUnavailable(f"unix:{path}", "another program listens there")
    Path(path).unlink()


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        answer = probe.connect_ex(path)
    if answer in {0, errno.EAGAIN, errno.EINPROGRESS}:
        return True
    if answer in {errno.ECONNREFUSED, errno.ENOENT}:
        return False
    raise OSError(answer, os.strerror(answer), path)
