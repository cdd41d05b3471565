"""TLS: the same server, behind a handshake that is bounded as well."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from tests.admin.serving import Script, Served, answers, get, read_all, read_until, served
from tests.transports import make_certificate
from trio_graphile import OptionInvalid
from trio_graphile.admin import ServerLimits
from trio_graphile.admin._server.listening import tls_context


@attrs.frozen
class Files:
    certificate: str
    key: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    found = Files(str(folder / "certificate.pem"), str(folder / "key.pem"))
    make_certificate(found.certificate, found.key)
    return found


@pytest.fixture
def tls(files: Files) -> ssl.SSLContext:
    return tls_context(files.certificate, files.key)


async def connect(server: Served, files: Files) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context(cafile=files.certificate)
    stream = trio.SSLStream(
        await server.connect(), context, server_hostname="127.0.0.1", https_compatible=True
    )
    await stream.do_handshake()
    return stream


async def test_requests_by_tls(files: Files, tls: ssl.SSLContext) -> None:
    app = Script()
    async with served(app, tls=tls) as server:
        assert server.urls[0].startswith("https://127.0.0.1:")
        async with await connect(server, files) as stream:
            await stream.send_all(get("/hello", "A: b") + get("/chunks"))
            found = answers(await read_all(stream), ["GET", "GET"])
    assert [one.body for one in found] == [b"GET", b"one two"]
    assert app.scopes[0]["scheme"] == "https"
    assert app.scopes[0]["client"][0] == "127.0.0.1"


async def test_refusals_by_tls(files: Files, tls: ssl.SSLContext) -> None:
    async with served(Script(), tls=tls) as server:
        for _ in range(2):
            async with await connect(server, files) as stream:
                await stream.send_all(b"GET\r\n\r\n")
                (found,) = answers(await read_all(stream))
                assert found.status == 400


async def test_the_end_cannot_be_forged_by_who_cuts_the_connection(files: Files, tls: ssl.SSLContext) -> None:
    """An end that TLS itself announces: a client that insists on it is content."""
    context = ssl.create_default_context(cafile=files.certificate)
    async with served(Script(), tls=tls) as server:
        transport = await server.connect()
        async with trio.SSLStream(transport, context, server_hostname="127.0.0.1") as stream:
            await stream.send_all(get("/chunks", "A: b", version="1.0"))
            assert (await read_all(stream)).endswith(b"one two")


@pytest.mark.parametrize("octets", [b"", b"\x16", b"GET / HTTP/1.1\r\n\r\n"], ids=["none", "half", "plain"])
async def test_a_handshake_that_never_ends_does_not_hold_its_place(
    octets: bytes, files: Files, tls: ssl.SSLContext
) -> None:
    limits = ServerLimits(head_timeout=0.2, connections=1)
    async with served(Script(), tls=tls, limits=limits) as server, await server.connect() as silent:
        await silent.send_all(octets)
        async with await connect(server, files) as stream:
            await stream.send_all(get("/hello"))
            assert answers(await read_all(stream))[0].status == 200


@pytest.mark.parametrize("end", ["stop", "cancel"])
@pytest.mark.parametrize("state", ["handshake", "idle", "stalled reader", "event stream"])
async def test_the_server_ends(end: str, state: str, files: Files, tls: ssl.SSLContext) -> None:
    grace_period = 0.05 if state == "stalled reader" else 3600  # what is idle needs none
    limits = ServerLimits(head_timeout=3600, send_timeout=3600, idle_timeout=3600, grace_period=grace_period)
    async with served(Script(), tls=tls, limits=limits) as server:
        plain = stream = await server.connect() if state == "handshake" else None
        if stream is None:
            secured = await connect(server, files)
            path = {"stalled reader": "/big", "event stream": "/stream"}.get(state, "/hello")
            await secured.send_all(get(path, "A: b"))
            if state == "idle":
                await read_until(secured, b"GET")
            plain = secured.transport_stream
        assert plain is not None
        async with plain:
            await trio.testing.wait_all_tasks_blocked(0.01)
            if end == "stop":
                server.stopping.set()
            else:
                server.cancel.cancel()
            await server.ended.wait()


@pytest.mark.parametrize(
    ("certificate", "key", "complaint"),
    [
        ("empty", "key", "no certificate in .*empty"),
        ("certificate", "certificate", "no key in .*certificate"),
        ("certificate", "other", "cannot be used together: "),
        ("certificate", "nowhere", "nowhere cannot be read: "),
    ],
)
def test_the_file_that_is_wrong_is_named(
    files: Files, tmp_path: Path, certificate: str, key: str, complaint: str
) -> None:
    make_certificate(str(tmp_path / "unused"), str(tmp_path / "other"))
    (tmp_path / "empty").touch()
    known = {"certificate": files.certificate, "key": files.key}
    with pytest.raises(OptionInvalid, match=complaint):
        tls_context(known.get(certificate, tmp_path / certificate), known.get(key, tmp_path / key))


def test_files_that_are_no_certificate_are_named(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"certificate: .*nowhere"):
        tls_context(tmp_path / "nowhere", tmp_path / "key")
