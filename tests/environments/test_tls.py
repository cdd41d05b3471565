"""A server with TLS of its own: a private authority, scram, a password file, and client certificates."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import pytest
import trio

from tests.environments.versions import SERVERS
from tests.faults.load import Load, check_nothing_locked, drain
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import running
from trio_graphile import (
    Client,
    DatabaseRefused,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres


def has_tls(programs: Path) -> bool:
    """Whether these programs were built with TLS: the embedded ones were not."""
    said = subprocess.run(["ldd", programs / "postgres"], capture_output=True, text=True, check=False).stdout
    return "libssl" in said


WITH_TLS = [programs for _, programs in sorted(SERVERS.items()) if has_tls(programs)]
pytestmark = [
    pytest.mark.skipif(not WITH_TLS, reason="there is no PostgreSQL with TLS: apt-get install postgresql"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl"),
]
RULES = """
local all all trust
hostssl all certified all cert
hostssl all all all scram-sha-256
"""
SETTINGS = """
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
ssl_ca_file = 'authority.pem'
password_encryption = 'scram-sha-256'
"""
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_ssl where ssl"
IS_ENCRYPTED = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


async def openssl(place: Path, *words: str) -> None:
    await trio.run_process(["openssl", *words], cwd=place, capture_stdout=True, capture_stderr=True)


async def make_authority(place: Path) -> None:
    place.mkdir()  # noqa: ASYNC240  # it takes no time
    words = ("req", "-x509", *KEY, "-subj", "/CN=authority", "-days", "2")
    await openssl(place, *words, "-keyout", "authority.key", "-out", "authority.pem")


async def certify(place: Path, file: str, name: str) -> None:
    """Make a key, and a certificate for a name that the authority signs."""
    await openssl(place, "req", *KEY, "-subj", f"/CN={name}", "-keyout", f"{file}.key", "-out", f"{file}.csr")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1\n")  # noqa: ASYNC240  # it takes no time
    signed = (
        "x509",
        "-req",
        "-CA",
        "authority.pem",
        "-CAkey",
        "authority.key",
        "-CAcreateserial",
        "-days",
        "2",
    )
    await openssl(place, *signed, "-extfile", "names", "-in", f"{file}.csr", "-out", f"{file}.pem")


@attrs.frozen
class Stage:
    """A server that is reached over TLS alone, and the folder with the keys of everybody."""

    server: PostgresServer
    keys: Path

    def url(self, login: str, **parameters: object) -> str:
        given = {"sslmode": "verify-full", "sslrootcert": self.keys / "authority.pem", **parameters}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"postgresql://{login}@127.0.0.1:{self.server.tcp_port}/postgres?{query}"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    keys = tmp_path / "keys"
    await make_authority(keys)
    await certify(keys, "server", "the server")
    await certify(keys, "client", "certified")
    async with embedded_postgres(bin_dir=WITH_TLS[-1], tcp_port=0) as server:
        async with open_database(server.url) as database:
            await database.execute("create role ada login superuser password 'sesame'")
            await database.execute("create role certified login superuser")
            await Client(database, TaskRegistry()).migrate()
        await server.stop()
        data = server.directory / "data"
        owner = data.stat()
        for name in ("server.pem", "server.key", "authority.pem"):
            shutil.copyfile(keys / name, data / name)
            (data / name).chmod(0o600)
            os.chown(data / name, owner.st_uid, owner.st_gid)
        (data / "pg_hba.conf").write_text(RULES)
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(SETTINGS)
        await server.start()
        yield Stage(server, keys)


async def live(url: str) -> None:
    """Run jobs of all kinds by way of this URL alone."""
    load = Load()
    async with open_database(url) as database:
        assert await database.fetch_value(IS_ENCRYPTED)
        await load.add(Client(database, load.tasks))
        async with running(Worker(database, load.tasks, WorkerOptions(poll_interval=0.1))):
            await drain(database)
        await check_nothing_locked(database)
    load.check()


async def test_a_queue_lives_over_tls_with_passwords_and_certificates(stage: Stage, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"127.0.0.1:{stage.server.tcp_port}:*:ada:sesame\n")
    passwords.chmod(0o600)
    await live(stage.url("ada:sesame"))
    await live(stage.url("ada", passfile=passwords))
    await live(stage.url("certified", sslcert=stage.keys / "client.pem", sslkey=stage.keys / "client.key"))


async def test_whoever_is_not_trusted_is_refused_at_once(stage: Stage, tmp_path: Path) -> None:
    await make_authority(tmp_path / "others")
    strange = tmp_path / "others" / "authority.pem"
    for url, why in [
        (stage.url("ada:sesame", sslrootcert=strange), "certificate verify failed"),
        (stage.url("ada:wrong"), "password authentication failed"),
        (stage.url("certified"), "certificate"),
        (stage.url("ada:sesame", sslmode="disable"), "no encryption"),
    ]:
        with pytest.raises(DatabaseRefused, match=why):
            async with open_database(url):
                pass


def cut_short(file: Path) -> None:
    file.write_text(file.read_text()[:99])


BREAKS: list[tuple[str, Callable[[Path], None]]] = [
    ("client.pem", Path.unlink),
    ("client.pem", cut_short),
    ("client.key", cut_short),
    ("authority.pem", Path.unlink),
    ("authority.pem", cut_short),
]


async def test_a_worker_waits_for_files_that_are_being_replaced(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """It says which file it waits for, and goes on when that is whole again."""
    url = stage.url("certified", sslcert=stage.keys / "client.pem", sslkey=stage.keys / "client.key")
    tasks = TaskRegistry()
    sender, receiver = trio.open_memory_channel[int](10)

    @tasks.task("number")
    async def number(payload: int) -> None:
        sender.send_nowait(payload)

    async with (
        open_database(stage.server.url) as local,
        open_database(url) as database,
        running(Worker(database, tasks, WorkerOptions(poll_interval=0.1))),
    ):
        for round_, (name, breaks) in enumerate(BREAKS):
            file = stage.keys / name
            whole = file.read_bytes()
            breaks(file)
            caplog.clear()
            await local.execute(END_SESSIONS)
            await wait_until(lambda file=file: str(file) in caplog.text)  # type: ignore[misc]
            file.write_bytes(whole)
            await Client(local, tasks).add_job(number, round_)
            with trio.fail_after(PATIENCE):
                assert await receiver.receive() == round_
