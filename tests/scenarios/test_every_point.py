"""The shutdown guarantee, at every scheduling point (a sample of them without `--exhaustive`)."""

from __future__ import annotations

import attrs
import pytest

from tests.scenarios.bad_plans import HANDLERS, STARTS, TRIGGERS
from tests.scenarios.endings import ENDINGS, FENCES, NEIGHBOURS, RIVALS, TAKERS, Ending
from tests.scenarios.harness import Stage
from tests.scenarios.plans import SCENARIOS
from tests.scenarios.trial import Scenario
from tests.transports import TRANSPORTS
from trio_graphile import LeaseOptions, PresenceOptions
from trio_graphile.testing._points import try_points

pytestmark = pytest.mark.dealt  # to try a few points takes less time than to find how many there are

ALL = SCENARIOS | HANDLERS | TRIGGERS | STARTS
SAMPLE = 4
"""How many points of a scenario and an ending are tried when time is short. By TCP and by TLS each tries one
of them, as do rivals: not all the same."""
DISTURBED = ("all_tempers", "serial_queues", "prefetch", "transactions", "crontab", "run_once")
"""The scenarios that are disturbed by neighbours. In the others they would find the same."""
MEDDLED = ("hooks", "serial_queues")
"""The scenarios in which somebody meddles with what stands for the worker."""
TAKEN = ("hooks", "serial_queues", "prefetch", "threads", "transactions")
"""Those in which another worker takes its jobs."""
ALSO_TAKEN = ("batches", "processes", "crontab")
"""In a sample of these, the same would be found."""
EACH_TAKEN = [*TAKEN, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ALSO_TAKEN)]
WATCHFUL = PresenceOptions(probe_interval=0.05, probe_timeout=4.0, fence_after=20.0, grace=25.0)
"""It soon sees what happened to its registration, and has time for all it does about that."""
HASTY = PresenceOptions(probe_interval=0.03, probe_timeout=0.3, fence_after=0.4, grace=0.5)
"""It soon interrupts its handlers."""
RENEWING = LeaseOptions(renew_interval=0.1)
POLL_INTERVAL = 0.1
"""What a neighbour had locked is looked at again."""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("scenario", ALL)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_guarantee_holds_wherever_a_run_ends(
    transport: str, scenario: str, ending: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    by_turns = [*ALL].index(scenario) + [*ENDINGS].index(ending) + (transport == "tls")
    turn = None if transport == "unix" else by_turns
    await visit_points(stage, ALL[scenario], ENDINGS[ending], request, turn=turn)


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("scenario", DISTURBED)
@pytest.mark.parametrize("transport", ["unix"])
async def test_the_guarantee_holds_wherever_a_neighbour_locks_something(
    transport: str, scenario: str, neighbour: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    plan = attrs.evolve(SCENARIOS[scenario], poll_interval=POLL_INTERVAL)
    await visit_points(stage, plan, NEIGHBOURS[neighbour], request)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("scenario", MEDDLED)
@pytest.mark.parametrize("transport", ["unix"])
async def test_the_guarantee_holds_wherever_a_worker_loses_what_stands_for_it(
    transport: str, scenario: str, rival: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    plan = attrs.evolve(SCENARIOS[scenario], presence=WATCHFUL, lease=RENEWING)
    turn = MEDDLED.index(scenario) + [*RIVALS].index(rival)
    await visit_points(stage, plan, RIVALS[rival], request, turn=turn)


@pytest.mark.parametrize("rival", TAKERS)
@pytest.mark.parametrize("scenario", EACH_TAKEN)
@pytest.mark.parametrize("transport", ["unix"])
async def test_the_guarantee_holds_wherever_another_takes_jobs(
    transport: str, scenario: str, rival: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    plan = attrs.evolve(SCENARIOS[scenario], presence=WATCHFUL, lease=RENEWING)
    turn = (*TAKEN, *ALSO_TAKEN).index(scenario) + [*TAKERS].index(rival)
    await visit_points(stage, plan, TAKERS[rival], request, turn=turn)


@pytest.mark.parametrize("rival", FENCES)
@pytest.mark.parametrize("scenario", EACH_TAKEN)
@pytest.mark.parametrize("transport", ["unix"])
async def test_the_guarantee_holds_wherever_a_worker_cannot_show_that_it_lives(
    transport: str, scenario: str, rival: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    plan = attrs.evolve(SCENARIOS[scenario], presence=HASTY, lease=RENEWING)
    turn = (*TAKEN, *ALSO_TAKEN).index(scenario) + [*FENCES].index(rival) + 1
    await visit_points(stage, plan, FENCES[rival], request, turn=turn)


async def visit_points(
    stage: Stage,
    plan: Scenario,
    act: Ending,
    request: pytest.FixtureRequest,
    *,
    turn: int | None = None,
) -> None:
    """Have it happen at each point, or at a sample of them; with a turn, at one of the sample."""
    name = request.node.name.rpartition("-")[0]  # of the scenario: all but what happens to it
    is_exhaustive, points = request.config.getoption("--exhaustive"), request.config.getoption("--points")
    share = (1, 1) if turn is None or is_exhaustive or points else (1 + turn % SAMPLE, SAMPLE)

    async def run(point: int | None) -> int:
        if point is None:
            return await stage.count_undisturbed(name, plan)
        return await stage.end_at(plan, point, act)

    found = await try_points(
        run,
        what="it happened",
        sample=None if is_exhaustive else points or SAMPLE,
        share=share,
    )
    request.node.user_properties += [("points", found.tried), ("of", found.points)]
