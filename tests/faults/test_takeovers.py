"""Nobody takes a job from a worker that lives and runs it, whatever goes wrong.

An hour of it: `OWN_LOOPBACK=1 unshare --net sh -c "ip link set lo up; pytest -s --seconds 3600
tests/faults/test_takeovers.py"`.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import Figures
from tests.faults.takeovers import open_trial


@pytest.mark.timeout(0)
async def test_no_job_is_taken_from_a_worker_that_lives(
    request: pytest.FixtureRequest, figures: Figures
) -> None:
    config = request.config
    async with open_trial(config.getoption("--seed")) as trial:
        await trial.go_on(config.getoption("--seconds"))
        takeovers = trial.takeovers()
        figures.note("takeovers from live workers", len(takeovers))
        for what, count in sorted(trial.successions().items()):
            figures.note(f"runs were {what}", count)
        assert takeovers == []
