"""Where a server listens, and what it leaves behind."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.admin.serving import BOUND, Script, answers, exchange, get, names_in, served
from trio_graphile import OptionInvalid
from trio_graphile.admin import AddressUnavailable, serve_admin
from trio_graphile.admin._server.addresses import TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:5678", TcpAddress("127.0.0.1", 5678)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:5678", TcpAddress("::1", 5678)),
        ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1)),
        (":5678", TcpAddress(None, 5678)),
        ("unix:/run/admin", UnixAddress("/run/admin")),
        ("unix:admin:1", UnixAddress("admin:1")),
    ],
)
def test_an_address(listen: str, address: object) -> None:
    assert parse_address(listen) == address


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "5678",
        "host",
        "host:",
        "host:http",
        "host:65536",
        "::1:5678",
        "[::1]",
        "a b:1",
        "unix:",
        "unix:\0",
    ],
)
async def test_no_address(listen: str) -> None:
    with pytest.raises(OptionInvalid) as refused:
        await serve_admin(Script(), listen)
    assert refused.value.option == "listen"


WRONG_KINDS: list[tuple[str, object]] = [
    ("app", None),
    ("listen", 8000),
    ("limits", {"connections": 5}),
    ("tls", "certificate.pem"),
    ("stopping", True),
]


@pytest.mark.parametrize(("option", "value"), WRONG_KINDS)
async def test_what_would_fail_later_is_refused_at_the_start(option: str, value: object) -> None:
    arguments: dict[str, Any] = {"app": Script(), "listen": "127.0.0.1:0", option: value}
    with trio.fail_after(20), pytest.raises(OptionInvalid) as refused:
        await serve_admin(**arguments)
    assert refused.value.option == option


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", ":0", "[::1]:0"])
async def test_the_url_has_the_port_that_was_free(listen: str) -> None:
    if listen.startswith("[") and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with served(Script(), listen) as server:
        assert not server.urls[0].endswith(":0")
        if listen != ":0":
            assert answers(await exchange(server, get("/hello")))[0].status == 200


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


async def test_an_address_in_use_is_named() -> None:
    async with served(Script()) as server:
        listen = server.urls[0].removeprefix("http://")
        with pytest.raises(AddressUnavailable, match=f"cannot listen on {listen}: .*in use"):
            await serve_admin(Script(), listen)


# --- UNIX sockets ---


@pytest.fixture
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def test_a_socket_is_for_its_owner_alone_and_is_removed(tmp_path: Path, generous_umask: None) -> None:
    path = tmp_path / "socket"
    app = Script()
    async with served(app, f"unix:{path}") as server:
        assert server.urls == (f"unix:{path}",)
        assert stat.filemode(os.lstat(path).st_mode) == "srw-------"
        assert answers(await exchange(server, get("/hello")))[0].status == 200
        server.stopping.set()
        await server.ended.wait()
    assert app.scopes[0]["client"] is None
    assert app.scopes[0]["server"] == (str(path), None)
    assert names_in(tmp_path) == []


async def test_a_socket_is_for_its_owner_alone_before_anybody_can_connect(
    tmp_path: Path, generous_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux from its first moment; elsewhere from the moment of `listen`."""
    modes = []
    path = tmp_path / "socket"

    class Looking(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            if sys.platform == "linux":
                modes.append(stat.filemode(os.lstat(path).st_mode))

        def listen(self, *arguments: int) -> None:
            modes.append(stat.filemode(os.lstat(path).st_mode))
            super().listen(*arguments)

    monkeypatch.setattr(socket, "socket", Looking)
    async with served(Script(), f"unix:{path}"):
        assert set(modes) == {"srw-------"}


async def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
    async with served(Script(), f"unix:{path}") as server:
        assert answers(await exchange(server, get("/hello")))[0].status == 200


async def test_a_socket_that_is_listened_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with served(Script(), f"unix:{path}") as server:
        with pytest.raises(AddressUnavailable, match="another program listens there"):
            await serve_admin(Script(), f"unix:{path}")
        assert answers(await exchange(server, get("/hello")))[0].status == 200


@pytest.mark.parametrize("what", ["file", "folder", "link"])
async def test_what_is_no_socket_is_left_alone(what: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    if what == "file":
        path.write_text("precious")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AddressUnavailable, match=r"unix:.*thing: what is there is no socket"):
        await serve_admin(Script(), f"unix:{path}")
    assert names_in(tmp_path) == ["thing"]


async def test_a_socket_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with served(Script(), f"unix:{path}") as server:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            server.stopping.set()
            await server.ended.wait()
            assert names_in(tmp_path) == ["socket"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing/socket", "No such file"), ("a" * 200, "too long")],
    ids=["folder", "length"],
)
async def test_a_path_that_cannot_be_had_is_named(path: str, reason: str, tmp_path: Path) -> None:
    with trio.fail_after(BOUND), pytest.raises(AddressUnavailable, match=reason):
        await serve_admin(Script(), f"unix:{tmp_path / path}")
    assert names_in(tmp_path) == []
