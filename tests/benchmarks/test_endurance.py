"""The program itself: how long jobs take is for whoever runs it to judge."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("endurance.py")


@pytest.mark.parametrize("pinned", [[], ["--pinned", "--dead=150000"]], ids=["", "pinned"])
def test_all_jobs_of_a_steady_rate_run(pinned: list[str], tmp_path: Path) -> None:
    size = ["--rate=1500", "--seconds=4", "--period=1", f"--directory={tmp_path}"]
    said = subprocess.run(
        [sys.executable, PROGRAM, *size, *pinned], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    rows = [line.split() for line in said.splitlines() if re.match(r" +\d", line)]
    assert "6000 jobs were added, 6000 ran" in said
    assert len(rows) >= 4
    assert all(len(row) == 11 for row in rows), said
