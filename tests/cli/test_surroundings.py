"""The program in surroundings as programs have: signals that are ignored, streams that are closed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import attrs
import pytest

from tests.cli.program import Program
from tests.support.processes import children_of
from trio_graphile import Client, Database

SERVING = ("run", "shop:tasks")
READY = "schema graphile_worker\n"


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_what_nohup_has_ignored_stays_ignored(
    shop: Program, database: Database, processes: str
) -> None:
    async with shop.behind("nohup").running(*SERVING, "--processes", processes) as running:
        await running.wait_until(lambda output: output.count(READY) == int(processes))
        running.send(signal.SIGHUP)
        await Client(database).add_raw_job("greet", "ada")
        await running.wait_for("greeted ada")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "1 completed" in running.output


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
async def test_with_closed_streams_an_executable_gets_its_input_all_the_same(
    shop: Program, database: Database, closed: str
) -> None:
    """A pipe that got the number of a standard stream would not reach it."""
    (shop.folder / "scripts").mkdir()
    script = shop.folder / "scripts" / "copy"
    script.write_text("#!/bin/sh\ncat > copied; echo fine; echo bad >&2\n")
    script.chmod(0o755)
    await Client(database).add_raw_job("copy", {"day": 1})
    ended = await shop.in_shell(closed).run(*SERVING, "--executables", "scripts", "--once")
    assert ended.exit_code == 0
    assert "Traceback" not in ended.errors
    assert '"day":1' in (shop.folder / "copied").read_text()


@pytest.mark.parametrize(
    "command", [("stats",), ("list",), ("list", "--json"), ("doctor",), ("add", "greet")]
)
async def test_a_command_without_an_output_does_its_work(
    shop: Program, database: Database, command: tuple[str, ...]
) -> None:
    ended = await shop.in_shell("<&- >&-").run(*command)
    assert ended.exit_code == 0
    assert "Traceback" not in ended.errors


ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


async def test_a_locale_without_letters_gets_them_escaped(shop: Program, database: Database) -> None:
    program = shop.with_environment(**ASCII)
    added = await program.run("add", "grüße", "--payload", '{"to": "ä\U0001f600"}', "--queue", "\U0001f600")
    assert added.output == f"added job {added.output.split()[2]} of task gr\\u00fc\\u00dfe\n"
    listed = await program.run("list", "--json")
    [job] = json.loads(listed.output)
    assert (job["task_identifier"], job["queue_name"]) == ("grüße", "\U0001f600")
    assert job["payload"] == {"to": "ä\U0001f600"}
    table = await program.run("list")
    assert "gr\\u00fc\\u00dfe\t\\ud83d\\ude00\t" in table.output
    assert (listed.exit_code, table.exit_code, table.errors) == (0, 0, "")


async def test_an_output_that_takes_no_more_is_named(shop: Program, database: Database) -> None:
    await Client(database).add_raw_jobs([("greet", "x")] * 50)
    ended = await shop.in_shell("> /dev/full").run("list")
    assert ended.error == "trio-graphile: the output cannot be written: No space left on device"
    assert ended.exit_code == 1


async def test_ctrl_c_before_the_command_has_begun_is_one_line(program: Program) -> None:
    interrupting = "import signal; signal.raise_signal(signal.SIGINT)"
    program.write("cyclopts.py", interrupting)
    ended = await program.from_scratch().run("stats")
    assert (ended.error, ended.exit_code) == ("trio-graphile: interrupted", 130)
    (program.folder / "cyclopts.py").unlink()
    program.write("broken.py", interrupting)
    ended = await program.run("run", "broken:tasks", "--database-url", "postgresql://nobody@127.0.0.1:1/x")
    assert ("Traceback" in ended.errors, ended.exit_code) == (False, 130)


ORPHANS = """
import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)  # what is orphaned below us becomes our child, as if we were process 1
from trio_graphile.cli._init import go_on_below_init
go_on_below_init()
orphan = subprocess.run(["sh", "-c", "sleep 0 & echo $!"], stdout=subprocess.PIPE, check=True).stdout
while os.path.exists(f"/proc/{int(orphan)}"):
    time.sleep(0.01)
print(f"waited for {int(orphan)}", flush=True)
END
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can make a process adopt orphans")
@pytest.mark.usefixtures("hangup_counts")
@pytest.mark.parametrize(
    ("end", "number", "exit_code"),
    [
        ("sys.exit(7)", None, 7),
        ("os.kill(os.getpid(), 9)", None, 128 + 9),
        ("time.sleep(600)", signal.SIGTERM, 128 + 15),
        ("time.sleep(600)", signal.SIGHUP, 128 + 1),
    ],
)
async def test_as_process_1_it_waits_for_orphans_and_passes_signals_on(
    program: Program, end: str, number: signal.Signals | None, exit_code: int
) -> None:
    program.write("below.py", ORPHANS.replace("END", end))
    below = attrs.evolve(program, command=(sys.executable, "below.py"))
    async with below.running() as running:
        await running.wait_for("waited for")
        if number is not None:
            running.send(number)
        assert await running.wait_ended() == exit_code


UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0
    )


@pytest.mark.skipif(not can_unshare(), reason="this user may not make a process number 1")
async def test_sigterm_ends_process_1_while_it_waits_for_its_server(program: Program) -> None:
    program.write("say.py", "import shop, sys\ntasks = shop.tasks\nprint('imported', flush=True)")
    url = "postgresql://nobody@127.0.0.1:1/x"
    flags = ("run", "say:tasks", "--wait-for-server", "600", "--database-url", url)
    async with program.behind(*UNSHARE).running(*flags) as running:
        await running.wait_for("imported")
        [inside] = children_of(running.pid)
        os.kill(inside, signal.SIGTERM)
        # By then it may look after signals itself, or not yet: either way it has ended.
        assert await running.wait_ended() in {0, 128 + 15}
