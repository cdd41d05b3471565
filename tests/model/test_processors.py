"""How many processors there are to use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trio_graphile._model.processors import read_quotas, usable_processors


@pytest.mark.parametrize(
    ("allowed", "quotas", "usable"),
    [
        (8, [], 8),
        (8, [2.0], 2),
        (8, [16.0], 8),
        (8, [4.0, 1.5, 3.0], 2),
        (8, [0.25], 1),
        (1, [], 1),
    ],
)
def test_the_smallest_bound_counts(allowed: int, quotas: list[float], usable: int) -> None:
    assert usable_processors(allowed, quotas) == usable


def test_quotas_of_version_2_are_those_of_all_groups_around_us(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    assert list(read_quotas(tmp_path, "0::/a/b\n")) == [1.5]


def test_quotas_of_version_1_are_found_by_their_controller(tmp_path: Path) -> None:
    for folder, quota in {"cpu,cpuacct/a": "50000", "cpu,cpuacct": "-1", "memory/a": "10000"}.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.cfs_quota_us").write_text(quota)
        (tmp_path / folder / "cpu.cfs_period_us").write_text("100000")
    assert list(read_quotas(tmp_path, "5:memory:/a\n4:cpu,cpuacct:/a\n")) == [0.5]


def test_a_container_that_sees_the_paths_of_its_machine_has_its_own_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("200000 100000")
    assert list(read_quotas(tmp_path, "0::/kubepods/pod7\n")) == [2.0]


def test_what_is_no_quota_bounds_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("nonsense")
    assert list(read_quotas(tmp_path, "0::/\nnonsense\n\n")) == []
    assert list(read_quotas(tmp_path / "missing", "0::/\n1:cpu:/\n")) == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_that_is_kept_to_one_processor_counts_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from trio_graphile import WorkerOptions\n"
        "options = WorkerOptions(); print(options.concurrency, options.processes.count)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["1", "1"]
