"""The shutdown guarantee, at every scheduling point (a sample of them without `--exhaustive`)."""

from __future__ import annotations

import attrs
import pytest

from tests.scenarios.bad_plans import HANDLERS, STARTS, TRIGGERS
from tests.scenarios.endings import ENDINGS, NEIGHBOURS, Ending
from tests.scenarios.harness import Stage
from tests.scenarios.plans import SCENARIOS
from tests.scenarios.trial import Scenario
from tests.support.shares import Share
from tests.transports import TRANSPORTS
from trio_graphile.testing._points import try_points

ALL = SCENARIOS | HANDLERS | TRIGGERS | STARTS
SAMPLE = {"unix": 8, "tcp": 2, "tls": 2}
"""How many points of a scenario and an ending are tried when time is short."""
SAMPLE_OF_NEIGHBOURS = 4
DISTURBED = ("all_tempers", "serial_queues", "prefetch", "transactions", "crontab", "run_once")
"""The scenarios that are disturbed by neighbours. In the others they would find the same."""
OTHER_TRANSPORTS = [pytest.param(way, marks=pytest.mark.dealt) for way in TRANSPORTS if way != "unix"]
"""They have few points each: of runs that share the sample, one tries all of a scenario and an ending."""
POLL_INTERVAL = 0.1
"""What a neighbour had locked is looked at again."""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("scenario", ALL)
@pytest.mark.parametrize("transport", ["unix", *OTHER_TRANSPORTS])
async def test_the_guarantee_holds_wherever_a_run_ends(
    transport: str, scenario: str, ending: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    await visit_points(stage, ALL[scenario], ENDINGS[ending], SAMPLE[transport], request)


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("scenario", DISTURBED)
@pytest.mark.parametrize("transport", ["unix"])
async def test_the_guarantee_holds_wherever_a_neighbour_locks_something(
    transport: str, scenario: str, neighbour: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    plan = attrs.evolve(SCENARIOS[scenario], poll_interval=POLL_INTERVAL)
    await visit_points(stage, plan, NEIGHBOURS[neighbour], SAMPLE_OF_NEIGHBOURS, request)


async def visit_points(
    stage: Stage, plan: Scenario, act: Ending, sample: int, request: pytest.FixtureRequest
) -> None:
    dealt = request.node.get_closest_marker("dealt") is not None
    share = Share(1, 1) if dealt else Share.of_run(request.config)
    name = request.node.name.rpartition("-")[0]  # of the scenario: all but what happens to it

    async def run(point: int | None) -> int:
        if point is None:
            return await stage.count_undisturbed(name, plan)
        return await stage.end_at(plan, point, act)

    found = await try_points(
        run,
        what="it happened",
        sample=None
        if request.config.getoption("--exhaustive")
        else request.config.getoption("--points") or sample,
        share=(share.number, share.of),
    )
    request.node.user_properties += [("points", found.tried), ("of", found.points)]
