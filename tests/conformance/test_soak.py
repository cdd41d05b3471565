"""All kinds of workers at once: for some seconds here, longer by hand with `--seconds=3600 --seed=7`."""

from __future__ import annotations

import random

import pytest

from tests.conformance.programs import KINDS, reason_to_skip
from tests.conformance.soak import Soak
from tests.conformance.stage import Stage

pytestmark = pytest.mark.interop

SHORTEST = 20.0


@pytest.mark.timeout(0)
async def test_whoever_is_stopped_or_killed_no_job_is_lost_or_run_twice(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    """Each runs at least once; again only if its worker died; those of a queue one after the other."""
    seconds, seed = request.config.getoption("--seconds"), request.config.getoption("--seed")
    soak = Soak(stage, random.Random(seed))
    kinds = tuple(kind for kind in KINDS if reason_to_skip(kind) is None)
    await soak.run(kinds, max(seconds, SHORTEST))
    assert await soak.violations() == []
    assert {row.attempts for row in (await stage.rows()).values()} <= {1}  # those that were to fail
    print(f"{len(soak.jobs)} jobs; {dict(soak.endings)}")  # noqa: T201  # for whoever runs it by hand
