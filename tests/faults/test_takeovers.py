"""Nobody takes a job from a worker that lives and runs it, whatever goes wrong.

An hour of it: `OWN_LOOPBACK=1 unshare --net sh -c "ip link set lo up; pytest -s --seconds 3600
tests/faults/test_takeovers.py"`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environments.clocks import Clock
from tests.environments.replicas import make_cluster, open_pair
from tests.faults.conftest import Figures
from tests.faults.takeovers import Trial, open_trial, open_trial_on


@pytest.mark.timeout(0)
async def test_no_job_is_taken_from_a_worker_that_lives(
    request: pytest.FixtureRequest, figures: Figures
) -> None:
    async with open_trial(request.config.getoption("--seed")) as trial:
        await trial.go_on(request.config.getoption("--seconds"))
        judge(trial, figures)


@pytest.mark.timeout(0)
async def test_nor_when_a_standby_takes_over_or_the_clock_is_set(
    request: pytest.FixtureRequest, figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clock").mkdir()
    clock = Clock(tmp_path / "clock")
    await make_cluster(tmp_path / "cluster")
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)  # for programs that are started from now on
    async with (
        open_pair(tmp_path / "cluster", tmp_path / "pair", synchronous=False) as pair,
        open_trial_on(pair, request.config.getoption("--seed"), clock) as trial,
    ):
        await trial.go_on(request.config.getoption("--seconds"))
        judge(trial, figures)


def judge(trial: Trial, figures: Figures) -> None:
    takeovers = trial.takeovers()
    figures.note("takeovers from live workers", len(takeovers))
    for what, count in sorted(trial.successions().items()):
        figures.note(f"runs were {what}", count)
    assert takeovers == []
