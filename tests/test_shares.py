"""Runs that share the samples try, taken together, what one run by itself tries."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from tests.conftest import DEALT
from tests.support.shares import Share

ROOT = Path(__file__).parents[1]
FUZZ = "tests/admin/test_api_fuzz.py"


@pytest.mark.parametrize("of", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("total", [0, 1, 4, 7, 30])
def test_each_thing_is_in_one_share(total: int, of: int) -> None:
    things = list(range(total))
    shares = [Share(number, of) for number in range(1, of + 1)]
    assert sorted(thing for share in shares for thing in share.deal(things)) == things
    assert [len(share.deal(things)) for share in shares] == [share.count(total) for share in shares]


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/5"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no share such as"):
        Share.parse(text)


def test_each_dealt_test_is_in_one_share() -> None:
    tests: list[str] = []
    for number in (1, 2):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", FUZZ]
        command.append(f"--share={number}/2")
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        tests += [line.rpartition("::")[2] for line in run.stdout.splitlines() if "::" in line]
    name = "test_any_request_is_answered_as_the_document_says"
    assert sorted(tests) == [f"{name}[{mode}]" for mode in ("basic", "bearer", "header", "none")]


def test_whatever_has_shares_runs_on_each_interpreter() -> None:
    """Else the shares of the interpreters between the oldest and the newest were tried by none."""
    text = (ROOT / "noxfile.py").read_text()
    [names] = re.findall(r"^BETWEEN = \((.+?)\)$", text, re.MULTILINE | re.DOTALL)
    run = [ROOT / name for name in re.findall(r'"(.+?)"', names)]
    for place in DEALT:
        assert any(place.is_relative_to(path) for path in run), place
    for module in (ROOT / "tests").glob("*/**/*.py"):
        if re.search(r"\bmark\.dealt\b|\bShare\.of_run\(", module.read_text()):
            assert any(module.is_relative_to(path) for path in run), module
