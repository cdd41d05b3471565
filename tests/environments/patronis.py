"""Patroni from its package: etcd, two servers on this machine, and what Patroni makes of them by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import trio

from tests.environments.versions import SERVERS
from tests.support.folders import passable_folder
from trio_graphile import Database, DatabaseOptions, open_database
from trio_graphile.embedded._installation import Identity, choose_installation

PROGRAMS = {name: shutil.which(name) for name in ("etcd", "patroni", "patronictl")}
NEWEST_KNOWN = 15
"""The newest version that the Patroni of Debian 12 knows."""
SCOPE, NAMES = "queue", ("north", "south")
PATIENCE = 60.0
"""How long Patroni may take for anything, in seconds."""
LADDER = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))


def missing() -> str | None:
    """Return what is missing here, if anything is."""
    names = [name for name, path in PROGRAMS.items() if path is None]
    if not any(version <= NEWEST_KNOWN for version in SERVERS):
        names.append(f"a PostgreSQL up to {NEWEST_KNOWN}")
    return ", ".join(names) or None


@attrs.frozen(kw_only=True)
class Node:
    """One server, and the Patroni that runs it."""

    name: str
    folder: Path
    port: int
    api_port: int

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def configuration(self, bin_dir: Path, etcd_port: int) -> dict[str, object]:
        """Return what Patroni reads; JSON is YAML, too."""
        parameters = {
            "fsync": "off",
            "dynamic_shared_memory_type": "mmap",
            "wal_log_hints": "on",  # so that a server that was left behind can be rewound
            "unix_socket_directories": str(self.folder),
        }
        rules = ["local all all trust", "host all all 127.0.0.1/32 trust"]
        return {
            "scope": SCOPE,
            "name": self.name,
            "etcd3": {"hosts": f"127.0.0.1:{etcd_port}"},
            "restapi": _place(self.api_port),
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "synchronous_mode": True,
                    "primary_start_timeout": 0,  # a primary that has crashed is replaced, not restarted
                    "postgresql": {"use_pg_rewind": True, "use_slots": True},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}],
            },
            "postgresql": {
                **_place(self.port),
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(bin_dir),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": "none"},
                    "replication": {"username": "postgres", "password": "none"},
                },
                "basebackup": [{"checkpoint": "fast"}],
                "parameters": parameters,
                "pg_hba": [*rules, "host replication all 127.0.0.1/32 trust"],
            },
        }

    @property
    def configuration_file(self) -> Path:
        return self.folder / "patroni.json"

    def kill_server(self) -> None:
        """Kill PostgreSQL with SIGKILL, and leave Patroni alone."""
        lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        os.kill(int(lines[0]), signal.SIGKILL)

    def kill_rest(self) -> None:
        """Kill what Patroni has left, if it did not end as it should."""
        with suppress(FileNotFoundError, ProcessLookupError):
            self.kill_server()


def _place(port: int) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{port}", "connect_address": f"127.0.0.1:{port}"}


@attrs.frozen
class Patroni:
    """A primary and its synchronous standby. Which is which, Patroni decides."""

    nodes: Sequence[Node]

    @property
    def url(self) -> str:
        """The URL of whichever of them takes writes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    @asynccontextmanager
    async def primary(self) -> AsyncIterator[Database]:
        """Open a session on whichever takes writes, when there is one."""
        options = DatabaseOptions(pool_size=1, connect_timeout=2.0, wait_for_server=PATIENCE)
        async with open_database(self.url, options) as database:
            yield database

    async def find_primary(self) -> Node:
        async with self.primary() as database:
            port = await database.fetch_value("select inet_server_port()")
        return next(node for node in self.nodes if node.port == port)

    async def wait_whole(self) -> None:
        """Wait until there is a primary, and Patroni holds its standby to be as good."""
        with trio.fail_after(PATIENCE):
            while sorted(await self._roles()) != WHOLE:  # noqa: ASYNC110  # it does not say when
                await trio.sleep(0.2)

    async def _roles(self) -> list[str]:
        """Return the roles of the members that are up, as some Patroni has them."""
        for node in self.nodes:
            try:
                text = await trio.to_thread.run_sync(_ask, node.api_port)
            except OSError:
                continue
            return [member["role"] for member in json.loads(text)["members"]]
        return []

    async def switch_over(self) -> Node:
        """Have Patroni make the standby the primary, as planned; return the new primary."""
        old = await self.find_primary()
        await self._control("switchover", "--force", "--leader", old.name)
        new = await self.find_primary()
        assert new != old
        return new

    async def _control(self, command: str, *arguments: str) -> str:
        file = self.nodes[0].configuration_file
        program = [str(PROGRAMS["patronictl"]), "-c", str(file), command, SCOPE, *arguments]
        with trio.fail_after(PATIENCE):
            said = await trio.run_process(program, capture_stdout=True, capture_stderr=True)
        return said.stdout.decode()


WHOLE = ["leader", "sync_standby"]


def _ask(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/cluster", timeout=5.0) as answer:
        return bytes(answer.read())


@asynccontextmanager
async def open_patroni() -> AsyncIterator[Patroni]:
    """Run etcd and two servers until the body ends."""
    # Not in a folder of pytest's: whoever runs pytest beside us takes it from others again.
    with passable_folder(None) as place, ExitStack() as programs:
        patroni = Patroni(await _start(place, programs))
        await patroni.wait_whole()
        yield patroni


async def _start(place: Path, programs: ExitStack) -> list[Node]:
    bin_dir = SERVERS[max(version for version in SERVERS if version <= NEWEST_KNOWN)]
    installation = await choose_installation(bin_dir, place)
    identity = installation.identity
    ports = _free_ports(6)
    folders = [place / name for name in NAMES]
    nodes = [
        Node(name=folder.name, folder=folder, port=ports[2 * number], api_port=ports[2 * number + 1])
        for number, folder in enumerate(folders)
    ]
    etcd = ["etcd", *_etcd_options(place / "etcd", *ports[4:])]
    programs.enter_context(_running(identity, place / "etcd", etcd))
    for node in nodes:
        _make_folder(node.folder, identity)
        configuration = node.configuration(installation.bin_dir, ports[4])
        node.configuration_file.write_text(json.dumps(configuration))
        programs.callback(node.kill_rest)
        programs.enter_context(_running(identity, node.folder, ["patroni", str(node.configuration_file)]))
    return nodes


def _etcd_options(folder: Path, port: int, peer_port: int) -> list[str]:
    place, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        f"--data-dir={folder / 'data'}",
        f"--listen-client-urls={place}",
        f"--advertise-client-urls={place}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]


def _make_folder(folder: Path, identity: Identity) -> None:
    folder.mkdir(exist_ok=True)
    if identity.user is not None:
        os.chown(folder, *identity.user)


@contextmanager
def _running(identity: Identity, folder: Path, command: Sequence[str]) -> Iterator[None]:
    """Run a program as whoever may run PostgreSQL; it ends with the body, or with this process."""
    _make_folder(folder, identity)
    program = [str(PROGRAMS[command[0]]), *command[1:]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON"))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            identity.command(*program, options=["--parent", str(os.getpid())]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**environment, "LC_ALL": "C"},
            start_new_session=True,
        )
    try:
        yield
    finally:
        for number, within in LADDER:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(within)
                break


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
