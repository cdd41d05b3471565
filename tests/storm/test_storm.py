"""Ours in the storm: a few stops of each kind here, a thousand with `nox -s storm`."""

from __future__ import annotations

import attrs
import pytest

from tests.benchmarks.install import Unavailable
from tests.storm import ours
from tests.storm.conditions import CONDITIONS, Condition
from tests.storm.places import open_servers
from tests.storm.referee import Verdict, quantile
from tests.storm.storm import Size, run_storm
from tests.support.shares import Share

SLACK = 20.0
"""How much longer than it should a process may take to end here, in seconds: other tests run beside it."""
SHORT = {"everything", "everything, frozen", "everything, restarted", "pgbouncer", "second signal", "killed"}
STORMS = [condition for condition in CONDITIONS if condition.name in SHORT]


@pytest.mark.dealt
@pytest.mark.timeout(400)
@pytest.mark.parametrize("condition", STORMS, ids=lambda condition: condition.name)
async def test_no_job_is_lost_stuck_or_run_twice_however_workers_end(
    condition: Condition, request: pytest.FixtureRequest
) -> None:
    stops = Share(STORMS.index(condition) + 1, len(STORMS)).count(request.config.getoption("--stops"))
    patient = attrs.evolve(condition, slack=SLACK)
    async with open_servers() as servers:
        try:
            async with servers.place(condition) as place:
                outcome = await run_storm(ours.contender(), patient, place, Size(stops=stops, workers=4))
        except Unavailable as reason:
            pytest.skip(str(reason))
    request.node.user_properties.append(("storm", _figures(outcome.verdict)))
    # A worker that begins while the server is away says so, and its supervisor tries again.
    assert not outcome.complaints or condition.upheaval == "restarted"
    assert not outcome.verdict.faults
    assert outcome.verdict.repeated == 0
    assert outcome.verdict.unresumed == 0


@pytest.mark.dealt
@pytest.mark.timeout(400)
async def test_the_referee_sees_what_careless_workers_leave_behind() -> None:
    """They die at SIGTERM with their jobs locked, and others take these once they are sure of it."""
    [condition] = [condition for condition in CONDITIONS if condition.name == "interrupted"]
    careless = attrs.evolve(ours.contender(), command=[*ours.COMMAND, "--careless"])
    async with open_servers() as servers, servers.place(condition) as place:
        outcome = await run_storm(careless, condition, place, Size(stops=2, workers=2))
    verdict = outcome.verdict
    assert verdict.left_locked >= verdict.interrupted > 0
    assert verdict.elsewhere[0] > condition.grace
    assert (verdict.lost, verdict.overlaps, verdict.unresumed) == (0, 0, 0)


def _figures(verdict: Verdict) -> str:
    soon, late = (quantile(verdict.elsewhere, part) for part in (0.5, 1.0))
    elsewhere = f"elsewhere after {soon:.2f}, at most {late:.2f} s" if soon and late else "none interrupted"
    return f"{verdict.stops:4} stops, {verdict.jobs:4} jobs, {elsewhere}:"
