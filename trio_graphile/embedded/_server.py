"""The life of the server: it starts, accepts connections, and is gone when the block ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import attrs
import trio

from trio_graphile._exceptions import EmbeddedPostgresError
from trio_graphile.embedded._binaries import find_binaries
from trio_graphile.embedded._folders import kept_folder, temporary_folder
from trio_graphile.embedded._installation import (
    Identity,
    Installation,
    choose_installation,
    create_cluster,
    environment,
    hand_over,
)

_FAST = {
    # No synchronous_commit=off: what was committed survives `kill`, as opposed to a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    # In the folder, not in /dev/shm, where the files of a killed server would stay.
    "dynamic_shared_memory_type": "mmap",
}
_SOCKET_PORT = 5432  # without TCP only a part of the socket's name
_LONGEST_SOCKET_PATH = 100  # bytes: the kernel takes 107 on Linux and 103 on macOS
_POLL_INTERVAL = 0.005
_START_TIMEOUT = 60.0
_PREDECESSOR_TIMEOUT = 15.0
_STOP_LADDER = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_STOP_TIMEOUT = 1.0 + sum(timeout for _, timeout in _STOP_LADDER)
# A server says this if its predecessor in the same folder, killed or orphaned, has not ended yet.
_PREDECESSOR = re.compile(r'lock file "[^"]+" already exists|shared memory block .* is still in use')


@attrs.define(kw_only=True, eq=False)
class PostgresServer:
    """A running PostgreSQL. Its superuser is `postgres`, without a password."""

    directory: Path
    """The folder with the cluster (`data`) and the `log` of the latest start."""
    socket_directory: Path
    version: str
    """PostgreSQL's version, such as `18.6`."""
    tcp_port: int | None
    """The port on 127.0.0.1; `None` if there is only the Unix socket."""
    _command: list[str] = attrs.field(repr=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """The URL of the database `postgres`, over the Unix socket."""
        return self.url_for("postgres")

    def url_for(self, database_name: str) -> str:
        """Return the URL of a database, over the Unix socket."""
        host, port = quote(str(self.socket_directory)), self.tcp_port or _SOCKET_PORT
        return f"postgresql://postgres@/{quote(database_name, safe='')}?host={host}&port={port}"

    def tcp_url_for(self, database_name: str = "postgres") -> str:
        """Return the URL of a database over TCP, for programs that know nothing else."""
        if self.tcp_port is None:
            raise EmbeddedPostgresError(
                "the server does not listen on TCP: give embedded_postgres a tcp_port"
            )
        return f"postgresql://postgres@127.0.0.1:{self.tcp_port}/{quote(database_name, safe='')}"

    @property
    def process_id(self) -> int | None:
        """The process id of the postmaster; `None` while the server is stopped."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the server, if it does not run, and wait until it accepts connections.

        Only needed after `stop` or `kill`. On Linux the server ends with the thread that called this. Raises
        `EmbeddedPostgresError` with the end of the log.
        """
        if self._process is not None and self._process.poll() is None:
            return
        with trio.move_on_after(_START_TIMEOUT) as waiting:
            if await self._outlast_predecessor():
                return
        reason = f"within {_START_TIMEOUT:.0f} seconds" if waiting.cancelled_caught else "and ended"
        await self.stop()
        raise EmbeddedPostgresError(
            f"PostgreSQL did not start {reason}; its log ends with:\n{self._log_end()}"
        )

    async def stop(self) -> None:
        """Stop the server, if it runs: sessions end at once, and their transactions roll back.

        Cannot be cancelled, and takes 20 seconds at most.
        """
        for number, timeout in _STOP_LADDER:
            if await self._end(number, timeout):
                return
        raise EmbeddedPostgresError(f"process {self.process_id} of PostgreSQL does not end")

    async def kill(self) -> None:
        """Kill the server with SIGKILL, as a crash would; `start` then recovers what was committed."""
        await self._end(signal.SIGKILL, _STOP_LADDER[-1][1])

    async def restart(self) -> None:
        """Stop the server, if it runs, and start it again in the same folder, under the same URLs."""
        await self.stop()
        await self.start()

    async def _outlast_predecessor(self) -> bool:
        deadline = trio.current_time() + _PREDECESSOR_TIMEOUT
        while not await self._try_to_start():
            if _PREDECESSOR.search(self._log_end()) is None or trio.current_time() > deadline:
                return False
            await trio.sleep(_POLL_INTERVAL * 10)
        return True

    async def _try_to_start(self) -> bool:
        """Return whether the server accepts connections; if not, it has ended."""
        process = self._process = self._spawn()
        status = self.directory / "data" / "postmaster.pid"
        while process.poll() is None:
            with suppress(FileNotFoundError):
                lines = status.read_text().splitlines()
                # A file that was left behind says "ready" too, under another number.
                if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return True
            await trio.sleep(_POLL_INTERVAL)
        return False

    def _spawn(self) -> subprocess.Popen[bytes]:
        log_path = self.directory / "log"
        log_path.unlink(missing_ok=True)  # it may be another user's
        with log_path.open("xb") as log:
            # Not by Trio: it forks in a worker thread, and the kernel would take the end of that for ours.
            return subprocess.Popen(  # noqa: S603 (our own words)
                self._command,
                stdin=subprocess.DEVNULL if sys.platform == "linux" else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for this program, which then stops the server
            )

    async def _end(self, number: signal.Signals, within: float) -> bool:
        process = self._process
        if process is None:
            return True
        process.send_signal(number)
        with trio.move_on_after(within, shield=True):
            while process.poll() is None:  # noqa: ASYNC110 (no event for this exists on every system)
                await trio.sleep(_POLL_INTERVAL)
        if process.poll() is None:
            return False
        if process.stdin is not None:
            process.stdin.close()
        self._process = None
        return True

    def _log_end(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2000:].strip()


@asynccontextmanager
async def embedded_postgres(
    directory: str | os.PathLike[str] | None = None,
    *,
    bin_dir: str | os.PathLike[str] | None = None,
    settings: Mapping[str, str] | None = None,
    tcp_port: int | None = None,
    temporary_in: str | os.PathLike[str] | None = None,
) -> AsyncIterator[PostgresServer]:
    """Run a PostgreSQL for the length of the block.

    A given `directory` is made if needed, kept, and used again the next time; its server is as durable as
    PostgreSQL's defaults. Without one the server lives in a temporary folder (in `temporary_in`, which
    defaults to the system's), never waits for the disk, and the folder is removed afterwards. The next start
    also removes temporary folders of processes that were killed.

    `settings` are the server's own, such as `{"max_connections": "300"}`. With a `tcp_port` (0 chooses a free
    one) the server listens on 127.0.0.1 too, where every user of the machine may connect. `find_binaries`
    explains `bin_dir`.

    Raises `PostgresNotFound`, and `EmbeddedPostgresError` if the folder is in use or of another major
    version, or the server does not start. However the block ends, the server is stopped, within 20 seconds;
    if this process is killed, the server ends by itself.
    """
    found = find_binaries(bin_dir)
    with ExitStack() as folders:
        if directory is None:
            home, defaults = folders.enter_context(temporary_folder(temporary_in)), _FAST
        else:
            home, defaults = folders.enter_context(kept_folder(directory)), {}
        installation = await choose_installation(found, home)
        await create_cluster(installation, home, durable=directory is not None)
        sockets = folders.enter_context(_socket_folder(home, installation.identity))
        port = _free_port() if tcp_port == 0 else tcp_port
        server = PostgresServer(
            directory=home,
            socket_directory=sockets,
            version=installation.version,
            tcp_port=port,
            command=_server_command(installation, home, sockets, port, {**defaults, **(settings or {})}),
        )
        try:
            await server.start()
            yield server
        finally:
            with trio.move_on_after(_STOP_TIMEOUT, shield=True):
                await server.stop()


@contextmanager
def _socket_folder(home: Path, identity: Identity) -> Iterator[Path]:
    """Yield the folder of the socket: the given one, if the kernel and a URL can name it, or a short one."""
    is_short = len(os.fsencode(home / f".s.PGSQL.{_SOCKET_PORT}.lock")) <= _LONGEST_SOCKET_PATH
    if is_short and "," not in str(home):  # which separates hosts
        yield home
        return
    with temporary_folder("/tmp") as short:  # noqa: S108 (made by mkdtemp; $TMPDIR may be long itself)
        hand_over(short, identity)
        yield short


def _server_command(
    installation: Installation, home: Path, sockets: Path, port: int | None, settings: Mapping[str, str]
) -> list[str]:
    ours = {
        "port": str(port or _SOCKET_PORT),
        "listen_addresses": "" if port is None else "127.0.0.1",
        "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"',  # a list
        "unix_socket_permissions": "0700",  # there is no password
    }
    words = [word for name, value in {**settings, **ours}.items() for word in ("-c", f"{name}={value}")]
    tied = ["--parent", str(os.getpid())] if sys.platform == "linux" else ["--watch-stdin"]
    postgres = installation.bin_dir / "postgres"
    return installation.identity.command(postgres, "-D", home / "data", *words, options=tied)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
