"""The program around its commands."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable

import pytest
import trio

from tests.cli.program import Program
from trio_graphile.cli._program import _COMMANDS
from trio_graphile.cli._settings import all_settings

COMMANDS = ("migrate", "run", "list", "doctor")


async def test_help_lists_the_commands(
    program: Program, record_property: Callable[[str, object], None]
) -> None:
    started = time.perf_counter()
    ended = await program.run("--help")
    record_property("seconds", round(time.perf_counter() - started, 2))  # for a report; machines differ
    assert ended.exit_code == 0
    assert all(command in ended.output for command in COMMANDS)


async def test_help_imports_nothing_that_only_a_command_needs(program: Program) -> None:
    """The time that it takes depends on the machine; this is what it depends on here."""
    source = "import sys; from trio_graphile.cli._program import run_program; run_program(['--help'])"
    ended = await program.run_python("-c", f"{source}; print('imported:', *sys.modules)")
    imported = set(ended.output.rpartition("imported:")[2].split())
    assert "cyclopts" in imported
    assert imported.isdisjoint({"asyncpg", "cattrs", "croniter", "trio", "trio_asyncio"})


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_help_of_a_command_speaks_for_the_options(program: Program, command: str) -> None:
    """Texts and defaults are the options' own."""
    ended = await program.run(command, "--help")
    assert ended.exit_code == 0
    words = " ".join(ended.output.replace("│", " ").split())
    assert "--connect-timeout FLOAT How long opening one session may take, for each of several" in words
    assert "URL takes precedence. [default: 5.0]" in words
    assert ("--grace-period" in words) is (command == "run")


async def test_the_help_of_run_lists_everything_that_can_be_set(program: Program) -> None:
    ended = await program.with_environment(COLUMNS="200").run("run", "--help")
    missing = [
        setting.flag
        for setting in all_settings()
        if setting.kind is not None and setting.path[0] != "admin" and f"--{setting.flag}" not in ended.output
    ]
    assert missing == ["tasks"], "which is an argument"
    assert "--no-recovery" in ended.output
    assert "--supervised" not in ended.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_it_completes_itself_in_a_shell(program: Program, shell: str) -> None:
    ended = await program.run("completion", shell)
    assert (ended.exit_code, ended.errors) == (0, "")
    assert "sweep-stale-workers" in ended.output
    assert "--grace-period" in ended.output


async def test_it_has_a_version(program: Program) -> None:
    ended = await program.run("--version")
    assert (ended.exit_code, bool(ended.output.strip())) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["rum"], 'Unknown command "rum". Did you mean "run"?'),
        (["run"], "no tasks are named: trio-graphile run MODULE:TASKS, such as app.jobs:tasks, or "),
        (["run", "shop:tasks", "more"], "See trio-graphile run --help."),
        (["migrate", "--poll-interval", "3"], "Unknown option: --poll-interval."),
    ],
)
async def test_wrong_usage_is_one_line_with_the_way_out(
    program: Program, arguments: list[str], error: str
) -> None:
    ended = await program.run(*arguments)
    assert error in ended.error
    assert (ended.exit_code, ended.output) == (2, "")


def test_what_is_said_of_a_command_is_what_its_function_says() -> None:
    """Twice, so that --help needs none of them."""
    for name, (place, text) in {n: c for group in _COMMANDS.values() for n, c in group.items()}.items():
        module, _, function = place.partition(":")
        documented = getattr(importlib.import_module(f"trio_graphile.cli.{module}"), function).__doc__
        assert text.startswith(documented.splitlines()[0].removesuffix(".")), name


async def test_who_reads_no_further_gets_no_traceback(shop: Program) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = await trio.run_process(
        [sys.executable, "-m", "trio_graphile", "list"],
        cwd=shop.folder,
        env=shop.whole_environment(),
        stdout=writing,
        capture_stderr=True,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr.decode()) == (1, "")


async def test_without_the_extra_it_says_how_to_install_it(program: Program) -> None:
    source = "import sys; sys.modules['cyclopts'] = None; from trio_graphile.cli import main; main()"
    ended = await program.run_python("-c", source)
    assert 'pip install "trio-graphile[cli]"' in ended.error
    assert ended.exit_code == 1
