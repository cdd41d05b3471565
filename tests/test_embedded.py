"""The embedded server: found, started, and gone with the block or with its process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.namespaces import EXEC, with_namespaces
from trio_graphile._database.database import open_database
from trio_graphile._exceptions import DatabaseUnavailable
from trio_graphile._model.options import DatabaseOptions
from trio_graphile.embedded import (
    EmbeddedPostgresError,
    PostgresNotFound,
    embedded_postgres,
    find_binaries,
)
from trio_graphile.embedded._installation import Identity, Installation

ROOT = Path(__file__).parents[1]

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, /proc and pidfd are Linux's")
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can change users"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """Lend a folder with a short path, in memory if possible: pytest's own are too long for a socket."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="test-", dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as path:
        Path(path).chmod(0o711)  # some tests change users
        yield Path(path)


def make_programs(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


async def ask(url: str, sql: str) -> object:
    async with open_database(url, DatabaseOptions(pool_size=1)) as database:
        return await database.fetch_value(sql)


async def tell(url: str, sql: str) -> None:
    async with open_database(url, DatabaseOptions(pool_size=1)) as database:
        await database.execute(sql)


def contents(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def is_running(process_id: int | None) -> bool:
    assert process_id is not None
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


# --- finding the binaries ---


def test_the_argument_decides_before_the_environment(tmp_path: Path) -> None:
    argument, variable = make_programs(tmp_path / "argument"), make_programs(tmp_path / "variable")
    environment = {"TRIO_GRAPHILE_PG_BIN": str(variable)}
    assert find_binaries(argument, environment=environment) == argument
    assert find_binaries(environment=environment) == variable


def test_a_choice_without_programs_is_refused_and_nothing_else_is_tried(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFound, match=rf"bin_dir is {tmp_path}, where there is no postgres"):
        find_binaries(tmp_path)
    with pytest.raises(PostgresNotFound, match="TRIO_GRAPHILE_PG_BIN is /nowhere"):
        find_binaries(environment={"TRIO_GRAPHILE_PG_BIN": "/nowhere"})


def test_the_wheels_come_first_then_pg_config_then_the_newest_of_the_usual_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_programs(tmp_path / "packages" / "first_wheel" / "pginstall" / "bin")
    second = make_programs(tmp_path / "packages" / "second_wheel" / "pginstall" / "bin")
    configured = make_programs(tmp_path / "configured")
    make_programs(tmp_path / "usual" / "9" / "bin")
    newest = make_programs(tmp_path / "usual" / "18" / "bin")
    (tmp_path / "usual" / "19" / "bin").mkdir(parents=True)  # its client programs alone
    pg_config = tmp_path / "path" / "pg_config"
    pg_config.parent.mkdir()
    pg_config.write_text(f"#!/bin/sh\necho {configured}\n")
    pg_config.chmod(0o755)
    monkeypatch.syspath_prepend(tmp_path / "packages")

    def find() -> Path:
        return find_binaries(
            environment={"PATH": str(pg_config.parent)},
            packages=["absent_wheel", "first_wheel", "second_wheel"],
            folders=[f"{tmp_path}/absent/*/bin", f"{tmp_path}/usual/*/bin"],
        )

    for expected in (first, second, configured, newest):
        assert find() == expected
        shutil.rmtree(expected)


def test_a_wheel_is_not_imported_to_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = make_programs(tmp_path / "loud_wheel" / "pginstall" / "bin")
    (tmp_path / "loud_wheel" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_binaries(environment={}, packages=["loud_wheel"], folders=[]) == programs


def test_of_two_versions_in_one_wheel_the_newer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs(tmp_path / "double_wheel" / "pginstall" / "bin")
    newer = make_programs(tmp_path / "double_wheel" / "pginstall18" / "bin")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_binaries(environment={}, packages=["double_wheel"], folders=[]) == newer


def test_where_nothing_is_found_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFound) as caught:
        find_binaries(environment={"PATH": str(tmp_path)}, packages=[], folders=[f"{tmp_path}/*/bin"])
    for hint in (sys.platform, "pip install trio-graphile[embedded]", "TRIO_GRAPHILE_PG_BIN"):
        assert hint in str(caught.value)


# --- the length of the block ---


async def test_it_takes_connections_inside_the_block_and_leaves_nothing_behind(place: Path) -> None:
    async with embedded_postgres(temporary_in=place) as server:
        assert str(await ask(server.url, "select version()")).startswith(f"PostgreSQL {server.version} ")
        assert await ask(server.url, "select current_setting('fsync')") == "off"
        process_id = server.process_id
        assert is_running(process_id)
    assert server.process_id is None
    assert not is_running(process_id)
    assert contents(place) == []


async def test_it_ends_with_an_exception(place: Path) -> None:
    process_id = None
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the block is what is tested)
        async with embedded_postgres(temporary_in=place) as server:
            process_id = server.process_id
            raise ZeroDivisionError
    assert not is_running(process_id)
    assert contents(place) == []


async def test_it_ends_with_a_cancellation_while_a_query_runs(place: Path) -> None:
    process_id = None
    with trio.move_on_after(60) as scope:
        async with embedded_postgres(temporary_in=place) as server, trio.open_nursery() as nursery:
            process_id = server.process_id
            nursery.start_soon(ask, server.url, "select pg_sleep(60)")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert not is_running(process_id)
    assert contents(place) == []


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when the task that made this takes its n-th step."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:  # noqa: TID251 (its test's own)
        self._scope = scope
        self._task = trio.lowlevel.current_task()
        self._steps_left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._steps_left -= 1
            if self._steps_left == 0:
                self._scope.cancel()


@on_linux
@pytest.mark.parametrize("steps", [1, 4, 8, 9, 10, 11, 12, 13])
async def test_a_start_that_is_cancelled_leaves_nothing_behind(place: Path, steps: int) -> None:
    with trio.move_on_after(60) as scope:
        instrument = CancelAtStep(scope, steps)
        trio.lowlevel.add_instrument(instrument)
        async with embedded_postgres(temporary_in=place):
            await trio.sleep_forever()
    trio.lowlevel.remove_instrument(instrument)
    assert contents(place) == []
    assert [path for path in command_lines() if str(place) in path] == []


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_text().replace("\0", " ")
        except OSError:
            continue  # it ended while we looked


async def test_two_servers_run_side_by_side(place: Path) -> None:
    async with (
        embedded_postgres(temporary_in=place) as one,
        embedded_postgres(temporary_in=place) as other,
    ):
        await tell(one.url, "create table only_here (id int)")
        assert await ask(other.url, "select to_regclass('only_here')::text") is None
        assert await ask(one.url, "select to_regclass('only_here')::text") == "only_here"


# --- kept folders ---


async def test_a_given_folder_is_durable_and_keeps_its_rows(place: Path) -> None:
    home = place / "new" / 'a "strange", folder'
    async with embedded_postgres(home) as server:
        assert await ask(server.url, "select current_setting('fsync')") == "on"
        await tell(server.url, "create table kept as select 42 as id")
    async with embedded_postgres(home, settings={"work_mem": "5MB"}) as server:
        assert await ask(server.url, "select id from kept") == 42
        assert await ask(server.url, "select current_setting('work_mem')") == "5MB"


async def test_a_folder_serves_one_server_at_a_time(place: Path) -> None:
    async with embedded_postgres(place) as server:
        with pytest.raises(EmbeddedPostgresError, match="in use by another embedded server"):
            async with embedded_postgres(place):
                pass
        assert await ask(server.url, "select 1") == 1


async def test_a_folder_of_another_major_version_is_refused(place: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedPostgresError, match=r"is of PostgreSQL 9\.6, but .* has \d+\.\d+"):
        async with embedded_postgres(place):
            pass


@pytest.mark.parametrize(("version", "major"), [("18.6", "18"), ("19rc1", "19"), ("19beta2", "19")])
def test_a_prerelease_has_the_major_version_of_its_clusters(version: str, major: str) -> None:
    assert Installation(bin_dir=Path(), identity=Identity(), version=version).major == major


@with_namespaces
async def test_a_path_too_long_for_a_socket_gets_a_short_one_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("long-" * 30)
    async with embedded_postgres(home, settings={"fsync": "off"}) as server:
        assert await ask(server.url, "select 1") == 1
        assert server.directory == home
    assert not server.socket_directory.exists()


async def test_folders_of_dead_processes_are_swept_and_those_of_the_living_are_not(place: Path) -> None:
    async with embedded_postgres(temporary_in=place) as server:
        dead = place / "trio-graphile-1-dead"
        (dead / "data").mkdir(parents=True)
        newborn = place / "trio-graphile-2-newborn"
        newborn.mkdir()
        other = place / "somebody-else"
        other.mkdir()
        async with embedded_postgres(temporary_in=place):
            assert not dead.exists()
        assert newborn.exists()
        assert other.exists()
        assert await ask(server.url, "select 1") == 1


# --- what goes wrong, and what is done about it ---


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(place: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers"'):
        async with embedded_postgres(temporary_in=place, settings={"shared_buffers": "nonsense"}):
            pass
    assert contents(place) == []


@with_namespaces
async def test_programs_that_do_not_run_are_an_error(place: Path) -> None:
    programs = make_programs(place / "bin")
    (programs / "postgres").write_text("#!/bin/sh\necho broken beyond repair; exit 3\n")
    with pytest.raises(EmbeddedPostgresError, match="does not run: broken beyond repair"):
        async with embedded_postgres(temporary_in=place, bin_dir=programs):
            pass


async def test_it_comes_back_with_what_was_committed_before_it_was_killed(place: Path) -> None:
    async with embedded_postgres(temporary_in=place) as server:
        await tell(server.url, "create table committed as select 42 as id")
        await server.kill()
        assert server.process_id is None
        await server.restart()
        assert await ask(server.url, "select id from committed") == 42


async def test_it_can_be_stopped_and_started_at_the_same_url(place: Path) -> None:
    async with embedded_postgres(temporary_in=place, tcp_port=0) as server:
        url = server.tcp_url_for("postgres")
        first = server.process_id
        await server.stop()
        await server.stop()
        assert not is_running(first)
        await server.start()
        await server.start()
        assert server.process_id != first
        assert await ask(url, "select 1") == 1


async def test_without_a_tcp_port_it_does_not_listen_on_one(place: Path) -> None:
    async with embedded_postgres(temporary_in=place) as server:
        assert await ask(server.url, "select current_setting('listen_addresses')") == ""
        with pytest.raises(EmbeddedPostgresError, match="tcp_port"):
            server.tcp_url_for()


# --- the end of the process ---

SERVE = """
import sys, trio
from trio_graphile._database.database import open_database
from trio_graphile._exceptions import DatabaseUnavailable
from trio_graphile.embedded import embedded_postgres

async def main():
    async with embedded_postgres(sys.argv[1], bin_dir=sys.argv[2]) as server:
        async with open_database(server.url) as database:
            await database.execute("create table if not exists starts (at timestamptz default now())")
            await database.execute("insert into starts default values")
        print(server.process_id, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)  # until it is closed

trio.run(main)
"""


@asynccontextmanager
async def serving(home: Path, *, python: list[str], bin_dir: Path) -> AsyncIterator[tuple[trio.Process, int]]:
    """Run a program that runs a server; yield it and the server's process id."""
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(packages)}
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False, env=environment
        )
        process: trio.Process = await nursery.start(run, [*python, "-c", SERVE, str(home), str(bin_dir)])
        assert process.stdin is not None
        assert process.stdout is not None
        with trio.fail_after(60):
            line = await process.stdout.receive_some()
        yield process, int(line)
        with trio.fail_after(30):
            await process.stdin.aclose()
            await process.wait()


@on_linux
async def test_it_does_not_outlive_a_process_that_is_killed_and_the_folder_serves_again(place: Path) -> None:
    async with serving(place, python=[sys.executable], bin_dir=find_binaries()) as (process, server_id):
        server = os.pidfd_open(server_id)
        process.kill()
        await process.wait()
        with trio.fail_after(20):
            async with embedded_postgres(place) as successor:  # even while the first is on its way out
                assert await ask(successor.url, "select count(*) from starts") == 1
            await trio.lowlevel.wait_readable(server)  # its end
        os.close(server)


def test_where_the_kernel_does_not_tell_a_watcher_ends_it_with_its_process() -> None:
    command = [sys.executable, "-I", "-S", str(EXEC), "--watch-stdin", "--", "/bin/sleep", "60"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == -signal.SIGINT


# --- users ---


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def user_of(process_id: int | None) -> int:
    return owner_of(Path(f"/proc/{process_id}"))


def helped(*options: str, python: str = sys.executable) -> list[str]:
    return [sys.executable, "-I", "-S", str(EXEC), *options, "--", python]


@as_root
@with_namespaces
async def test_root_runs_it_without_an_account_or_a_folder_for_others(place: Path) -> None:
    async with embedded_postgres(place / "home") as server:
        assert await ask(server.url, "select 1") == 1
        assert owner_of(place / "home" / "data") == 0


@on_linux
@with_namespaces
async def test_an_ordinary_user_runs_it_in_a_namespace(place: Path) -> None:
    python = helped("--userns")
    async with serving(place, python=python, bin_dir=find_binaries()) as (_, server_id):
        assert is_running(server_id)
    assert not is_running(server_id)


@as_root
async def test_an_ordinary_user_runs_it_and_root_leaves_it_to_them(place: Path) -> None:
    python, nobody = "/usr/bin/python3", 65534
    probe = [
        *helped("--setuid", f"{nobody}:{nobody}", python=python),
        "-c",
        "from trio_graphile import open_database, embedded",
    ]
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    answer = await trio.run_process(
        probe, check=False, capture_stderr=True, env={"PYTHONPATH": os.pathsep.join(packages)}
    )
    if answer.returncode != 0:
        pytest.skip(f"no interpreter and packages that everybody may read: {answer.stderr.decode()[-200:]}")
    os.chown(place, nobody, nobody)
    command = helped("--setuid", f"{nobody}:{nobody}", python=python)
    async with serving(place, python=command, bin_dir=find_binaries()) as (_, server_id):
        assert user_of(server_id) == nobody
    async with embedded_postgres(place) as server:
        assert user_of(server.process_id) == nobody
        assert await ask(server.url, "select count(*) from starts") == 1


WITHOUT_NAMESPACES = """
import ctypes, os, sys
from pathlib import Path

# As in a container: root, all users, and no further user namespaces.
ready, mapped = os.pipe(), os.pipe()
if (child := os.fork()) == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b".")
    os.read(mapped[0], 1)
    os.setgid(0), os.setuid(0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    Path(f"/proc/{child}/{name}").write_text("0 0 65536")
os.write(mapped[1], b".")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@as_root
@with_namespaces
@pytest.mark.parametrize("hidden", [False, True], ids=["readable", "hidden"])
async def test_root_without_namespaces_runs_it_as_nobody(place: Path, *, hidden: bool) -> None:
    bin_dir = find_binaries()
    if hidden:
        (place / "hidden").mkdir(mode=0o700)
        site_packages = bin_dir.parents[2]
        (place / "hidden" / "wheels").symlink_to(site_packages)
        bin_dir = place / "hidden" / "wheels" / bin_dir.relative_to(site_packages)
    python = [sys.executable, "-c", WITHOUT_NAMESPACES]
    async with serving(place / "home", python=python, bin_dir=bin_dir) as (_, server_id):
        assert user_of(server_id) == 65534
    assert not is_running(server_id)


async def test_as_a_program_it_prints_its_url_and_ends_at_a_signal(place: Path) -> None:
    command = [sys.executable, "-m", "trio_graphile.embedded", str(place / "data")]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with trio.fail_after(60):
        url = (await process.stdout.receive_some()).decode().strip()
        assert await ask(url, "select 1") == 1
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    with pytest.raises(DatabaseUnavailable):
        await ask(url, "select 1")


async def run_as_a_program(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "trio_graphile.embedded", *arguments]
    with trio.fail_after(60):
        return await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)


async def test_as_a_program_it_says_in_one_line_what_is_wrong(place: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / "PG_VERSION").write_text("9.6\n")
    run = await run_as_a_program(str(place))
    assert run.returncode == 1
    assert run.stderr.decode().startswith("trio_graphile.embedded: ")
    assert run.stderr.decode().count("\n") == 1, run.stderr.decode()


@pytest.mark.parametrize("arguments", [("a", "b"), ("--data",)])
async def test_as_a_program_it_refuses_arguments_that_it_does_not_know(arguments: tuple[str, ...]) -> None:
    run = await run_as_a_program(*arguments)
    assert run.returncode == 2
    assert "error: unrecognized arguments" in run.stderr.decode()


async def test_as_a_program_it_explains_itself() -> None:
    run = await run_as_a_program("--help")
    assert run.returncode == 0
    assert "FOLDER" in run.stdout.decode()
