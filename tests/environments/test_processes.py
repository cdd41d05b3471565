"""Workers as process managers, containers, terminals and kernels treat them. No job stays locked in any."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.cli.program import PATIENCE, Program
from tests.cli.terminal import terminal
from tests.support.processes import children_of
from tests.support.tables import locks
from tests.support.waiting import wait_until
from trio_graphile import Client, Database

DOCKER_STOP = 10.0
"""How many seconds `docker stop` leaves a container after SIGTERM."""
SERVING = ("run", "chores:tasks", "--concurrency", "4")
LEFT = "select attempts, locked_by, last_error from graphile_worker._private_jobs order by id"
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
READ_ONLY = ("unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh")


def can_run(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture
def program(tmp_path: Path, database_url: str) -> Program:
    shutil.copy(Path(__file__).with_name("chores.py"), tmp_path)
    return Program(tmp_path).with_environment(DATABASE_URL=database_url)


async def works_and_stops(program: Program, database: Database, *flags: str) -> str:
    """Run a job, interrupt another by a stop, and return what the program wrote."""
    client = Client(database)
    await client.add_raw_job("endless")
    async with program.running(*SERVING, "--grace-period", "0.1", *flags) as running:
        await running.wait_for("endless runs")
        await client.add_raw_job("quick", 1)
        await running.wait_for("quick 1 ran")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0, running.output
    assert [(row["attempts"], row["locked_by"]) for row in await database.fetch(LEFT)] == [(0, None)]
    return running.output


async def test_few_files_are_enough(program: Program, database: Database) -> None:
    """Each session, pipe and event loop takes one."""
    await works_and_stops(program.behind("sh", "-c", 'ulimit -n 40; exec "$@"', "sh"), database)


async def test_too_few_files_are_named_and_lock_nothing(program: Program, database: Database) -> None:
    await Client(database).add_raw_job("quick", 1)
    for limit in (8, 14):
        ended = await program.behind("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh").run(
            *SERVING, "--once"
        )
        if ended.exit_code != 0:
            assert "Too many open files" in ended.errors or "open file" in ended.errors, ended.errors
        assert not await locks(database)


@pytest.mark.skipif(not can_run(*READ_ONLY), reason="this user may not mount")
async def test_a_file_system_that_is_read_only_is_enough(program: Program, database: Database) -> None:
    await works_and_stops(program.behind(*READ_ONLY), database)


async def test_no_home_is_needed(program: Program, database: Database) -> None:
    homeless = program.with_environment(HOME="/nonexistent").behind("env", "-u", "USER", "-u", "LOGNAME")
    await works_and_stops(homeless, database)


@pytest.mark.usefixtures("hangup_counts")
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_terminal_that_is_closed_is_a_stop(
    program: Program, database: Database, processes: str
) -> None:
    """SIGHUP, and from then on nothing can be written there."""
    await Client(database).add_raw_jobs([("endless", None)] * 2)
    environment = program.whole_environment()
    flags = (*SERVING, "--grace-period", "0.1", "--processes", processes)
    async with terminal(program.folder, environment, *flags) as term:
        await term.wait_until(lambda written: written.count("endless runs") == 2)
        term.close()
        with trio.fail_after(PATIENCE):
            await term.process.wait()
            while await locks(database):
                pass
    assert [row["attempts"] for row in await database.fetch(LEFT)] == [0, 0]


@pytest.mark.parametrize("flags", [("--json",), ("--processes", "2")])
async def test_whoever_read_the_output_may_be_gone(
    program: Program, database: Database, flags: tuple[str, ...]
) -> None:
    client = Client(database)
    reading, writing = os.pipe()
    process = await trio.lowlevel.open_process(
        [*program.command, *SERVING, "--status-interval", "0.05", *flags],
        cwd=program.folder,
        env=program.whole_environment(),
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    try:
        await trio.to_thread.run_sync(os.read, reading, 1)
        os.close(reading)
        await client.add_raw_jobs([("failing", None), *[("silent", None)] * 20])
        with trio.fail_after(PATIENCE):
            while (backlog := await client.backlog()).ready or backlog.locked:
                pass
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            await process.wait()
    finally:
        process.kill()
    assert not await locks(database)
    assert len(await database.fetch(LEFT)) == 1, "the one that has failed"


@pytest.mark.skipif(not can_run(*UNSHARE), reason="this user may not make a process number 1")
async def test_docker_stop_is_long_enough_for_nine_seconds(program: Program, database: Database) -> None:
    """The options of the page, with handlers of all lanes that end for no signal."""
    await Client(database).add_raw_jobs([("endless", None), ("elsewhere", None), ("stubborn", None)])
    flags = ("--grace-period", "2", "--flush-timeout", "4")
    async with program.behind(*UNSHARE).running(*SERVING, *flags) as running:
        await running.wait_until(lambda output: output.count(" runs") == 3)
        [one] = children_of(running.pid)
        began = time.monotonic()
        os.kill(one, signal.SIGTERM)
        assert await running.wait_ended() == 0
        assert time.monotonic() - began < DOCKER_STOP
    assert not await locks(database)
    assert {row["attempts"] for row in await database.fetch(LEFT)} == {0}


async def test_grandchildren_of_a_handler_go_when_its_worker_is_killed(
    program: Program, database: Database
) -> None:
    await Client(database).add_raw_job("elsewhere")
    async with program.running(*SERVING) as running:
        await running.wait_for("elsewhere runs")
        [(lane, grandchild)] = re.findall(r"runs in (\d+) with (\d+)", running.output)
        running.send(signal.SIGKILL)
        await wait_until(lambda: not (program.is_alive(int(lane)) or program.is_alive(int(grandchild))))


@contextlib.contextmanager
def small_memory_group() -> Iterator[Path]:
    """A control group whose processes are killed when they need more than 64 MB."""
    root = Path("/sys/fs/cgroup")
    first = (root / "cgroup.controllers").exists()
    folder = (root if first else root / "memory") / f"trio_graphile_test_{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if first else "memory.limit_in_bytes")).write_text(str(64 << 20))
        if first:
            (folder / "memory.swap.max").write_text("0")
    except OSError as error:
        pytest.skip(f"this user may not limit memory: {error}")
    try:
        yield folder
    finally:
        folder.rmdir()


async def test_a_process_that_the_kernel_kills_for_its_memory_is_a_failure(
    program: Program, database: Database
) -> None:
    with small_memory_group() as group:
        await Client(database).add_raw_job("glutton", str(group))
        ended = await program.run(*SERVING, "--once")
        [row] = await database.fetch(LEFT)
    assert (row["attempts"], row["locked_by"]) == (1, None), ended
    assert row["last_error"] == f"its process died, with exit code {-signal.SIGKILL}"
    assert "eaten" not in ended.output
