"""A real PgBouncer in front of a real server, which can be killed and comes back at the same port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import trio

from tests.support.waiting import PATIENCE
from trio_graphile.embedded import PostgresServer

PROGRAM = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")

_CONFIGURATION = """
[databases]
* = host={address} port={server} user=postgres

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
auth_type = any
logfile = {folder}/log
pidfile =
"""


@attrs.define(eq=False)
class Bouncer:
    """One PgBouncer. Its settings last as long as it does."""

    port: int
    _configuration: Path
    _process: subprocess.Popen[bytes] | None = None

    def url(self, name: str = "postgres") -> str:
        """Return the URL of a database by way of it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    async def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._process = subprocess.Popen(  # noqa: ASYNC220  # it forks, and that is all
            command(self._configuration),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with trio.fail_after(PATIENCE):
            while not await self._accepts():  # noqa: ASYNC110  # it does not say when it does
                assert self._process.poll() is None, "pgbouncer does not start"
                await trio.sleep(0.02)

    def kill(self) -> None:
        """Kill it, and with it every session of its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _accepts(self) -> bool:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            return False
        await stream.aclose()
        return True


@asynccontextmanager
async def open_bouncer(server: PostgresServer, **settings: object) -> AsyncIterator[Bouncer]:
    """Run PgBouncer in front of a server that listens on TCP, with further settings of its own."""
    assert server.tcp_port is not None
    port = _free_port()
    with configured("127.0.0.1", port, server.tcp_port, settings) as configuration:
        bouncer = Bouncer(port, configuration)
        try:
            await bouncer.start()
            yield bouncer
        finally:
            bouncer.kill()


@contextmanager
def configured(address: str, port: int, server_port: int, settings: Mapping[str, object]) -> Iterator[Path]:
    """Write the configuration of a PgBouncer that listens at the address of its server."""
    settings = {"max_client_conn": 200, **settings}
    with tempfile.TemporaryDirectory(prefix="bouncer-") as folder:
        Path(folder).chmod(0o777)
        configuration = Path(folder) / "pgbouncer.ini"
        text = _CONFIGURATION.format(address=address, port=port, server=server_port, folder=folder)
        configuration.write_text(text + "".join(f"{name} = {value}\n" for name, value in settings.items()))
        configuration.chmod(0o644)
        yield configuration


def command(configuration: Path) -> list[str]:
    assert PROGRAM is not None
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to be root
    return [PROGRAM, "-q", *user, str(configuration)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
