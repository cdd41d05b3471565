"""The files for TLS: what is wrong with one is said at the start, and is no outage."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from tests.faults.network import open_proxy
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import running
from tests.transports import make_certificate
from trio_graphile import (
    DatabaseOptions,
    DatabaseRefused,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    TaskRegistry,
    Worker,
    open_database,
)
from trio_graphile._database.access import Access
from trio_graphile._database.address import Address, read_address
from trio_graphile._database.tls_files import TlsFiles

WAITING = 60.0


@pytest.fixture
def nonsense(tmp_path: Path) -> str:
    """A file that is there, and is no certificate."""
    file = tmp_path / "nonsense.pem"
    file.write_text("nonsense\n")
    return str(file)


@pytest.fixture(autouse=True)
def _no_files_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def with_parameters(url: str, parameters: str) -> str:
    return f"{url.partition('?')[0]}?{parameters}"


@pytest.mark.parametrize("parameter", ["sslrootcert", "sslcrl", "sslcert"])
@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_file_that_is_no_certificate_is_a_mistake_and_no_outage(
    database_url: str, nonsense: str, parameter: str, hosts: int
) -> None:
    async with open_proxy(database_url) as proxy:
        url = with_parameters(proxy.url, f"sslmode=verify-ca&sslrootcert={quote(nonsense)}")
        if parameter != "sslrootcert":
            url = with_parameters(url, f"sslmode=require&{parameter}={quote(nonsense)}")
        url = url.replace("@127.0.0.1", "@" + "127.0.0.1:1," * (hosts - 1) + "127.0.0.1")
        with (
            trio.fail_after(PATIENCE),
            pytest.raises(DatabaseUrlInvalid, match=f"{parameter}: the file {nonsense}"),
        ):
            async with open_database(url, DatabaseOptions(wait_for_server=WAITING)):
                pass


def test_a_certificate_beside_the_systems_authorities_is_looked_at(nonsense: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match=f"sslcert: the file {nonsense} cannot be used"):
        read_address(f"postgresql://a/queue?sslrootcert=system&sslcert={quote(nonsense)}", {})


@pytest.mark.parametrize("url", ["postgresql://a/queue", None])
def test_the_systems_authorities_may_be_asked_for_in_a_variable(url: str | None) -> None:
    address = read_address(url, {"PGHOST": "a", "PGSSLROOTCERT": "system"})
    assert address.arguments["ssl"].verify_mode is ssl.CERT_REQUIRED


def test_files_that_the_driver_takes_unasked_are_looked_at(tmp_path: Path, nonsense: str) -> None:
    (tmp_path / ".postgresql").mkdir()
    shutil.copy(nonsense, usual := tmp_path / ".postgresql" / "root.crt")
    assert str(usual) in str(TlsFiles().find_mistake())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_files_that_are_well_are_not_to_blame_for_a_failed_handshake(tmp_path: Path) -> None:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    make_certificate(certificate, key)
    named = {"sslrootcert": certificate, "sslcert": certificate, "sslkey": key}
    address = Address(url=None, shown="nowhere", tls_files=TlsFiles(named=named))
    error = Access(address=address).denied(ssl.SSLError("handshake failure"), is_misfit=False)
    assert isinstance(error, DatabaseUnavailable)
    assert "or its key" in str(TlsFiles(named={**named, "sslkey": certificate}).find_mistake())


def test_a_file_that_breaks_while_a_program_runs_is_waited_for(nonsense: str) -> None:
    """As one that is being written anew."""
    files = TlsFiles(named={"sslrootcert": nonsense})
    access = Access(address=Address(url=None, shown="nowhere", tls_files=files))
    access.granted(None)
    for reason in (ssl.SSLError("no certificate or crl found"), FileNotFoundError(2, "No such file")):
        error = access.denied(reason, is_misfit=False)
        assert isinstance(error, DatabaseUnavailable)
        assert f"sslrootcert: the file {nonsense} cannot be used" in str(error)


async def test_a_worker_does_not_crash_if_a_file_breaks_before_the_server_was_ever_there(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver has used the file by then, so it is no mistake that somebody made in the address."""
    make_certificate(str(file := tmp_path / "authority.pem"), str(tmp_path / "key.pem"))
    direct_url = f"postgresql://postgres@127.0.0.1:1/queue?sslmode=verify-ca&sslrootcert={quote(str(file))}"
    options = DatabaseOptions(pooled=True, direct_url=direct_url)
    async with (
        open_database(database_url, options) as database,
        running(Worker(database, TaskRegistry())),
    ):
        await wait_until(lambda: "not listening, polling meanwhile" in caplog.text)
        file.write_text("nonsense\n")
        await wait_until(lambda: f"sslrootcert: the file {file} cannot be used" in caplog.text)
        file.unlink()
        caplog.clear()
        await wait_until(lambda: f"sslrootcert: the file {file} cannot be used" in caplog.text)


# --- the direct URL -----------------------------------------------------------------------------


async def start_worker(url: str, direct_url: str) -> None:
    """Start a worker and stop it. Raises what that raises, without groups."""
    async with open_database(url, DatabaseOptions(pooled=True, direct_url=direct_url)) as database:
        worker = Worker(database, TaskRegistry())
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                worker.stop()


async def test_a_file_of_the_direct_url_that_is_no_certificate_fails_the_start(
    database_url: str, nonsense: str
) -> None:
    async with open_proxy(database_url) as proxy:
        direct_url = with_parameters(proxy.url, f"sslmode=verify-ca&sslrootcert={quote(nonsense)}")
        with pytest.RaisesGroup(pytest.RaisesExc(DatabaseUrlInvalid, match="sslrootcert: the file")):
            await start_worker(database_url, direct_url)


async def test_a_direct_url_that_the_server_refuses_fails_the_start(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"
    with pytest.RaisesGroup(pytest.RaisesExc(DatabaseRefused, match="nobody")):
        await start_worker(database_url, f"{database_url}{separator}role=nobody")


async def test_a_server_of_the_direct_url_that_is_not_there_yet_is_waited_for(database_url: str) -> None:
    await start_worker(database_url, "postgresql://postgres@127.0.0.1:1/queue")
