"""The tutorial, as its reader follows it: writes its files, runs its commands, compares what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

PAGES = {"tutorial": Path(__file__).parents[1] / "docs" / "tutorial.md"}
LONGEST_COMMAND = 60.0

STEPS = re.compile(
    r"^```\{code-block\} \w+\n:caption: (?P<file>\S+)\n\n(?P<text>.*?)^```$"
    r"|^```console\n(?P<session>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Command:
    line: str
    printed: str
    """With `…` for what differs from run to run; a line of nothing else stands for any number of lines."""


def commands_in(session: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        yield Command(line, printed)


def pattern_of(printed: str) -> str:
    lines = ["(?:.*\n)*" if line == "…" else f"{re.escape(line)}\n" for line in printed.splitlines()]
    return "".join(lines).replace("…", ".*")


@pytest.mark.dealt
@pytest.mark.parametrize("page", PAGES)
async def test_a_reader_gets_what_the_page_shows(page: str, empty_database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "DATABASE_URL": empty_database_url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for step in STEPS.finditer(PAGES[page].read_text()):
        if step["file"] is not None:
            (tmp_path / step["file"]).write_text(step["text"])
            continue
        for command in commands_in(step["session"]):
            with trio.fail_after(LONGEST_COMMAND):
                run = await trio.run_process(
                    ["bash", "-c", command.line],
                    cwd=tmp_path,
                    env=environment,
                    check=False,
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                )
            said = run.stdout.decode()
            assert run.returncode == 0, f"$ {command.line}\n{said}"
            assert re.fullmatch(pattern_of(command.printed), said), f"$ {command.line}\n{said}"


def test_what_is_shown_has_to_be_printed() -> None:
    shown = "a…c\n…\nend\n"
    assert re.fullmatch(pattern_of(shown), "abc\nx\ny\nend\n")
    assert re.fullmatch(pattern_of(shown), "ac\nend\n")
    assert not re.fullmatch(pattern_of(shown), "abc\nx\n")
    assert not re.fullmatch(pattern_of(shown), "abd\nend\n")
