"""Each peer adds jobs, runs them and stops: only if `$STORM_PEERS` is set, since it installs all of them."""

from __future__ import annotations

import os

import pytest

from tests.benchmarks.install import Unavailable, default_cache
from tests.storm.adapters import Contender, install, peer_names
from tests.storm.conditions import CONDITIONS
from tests.storm.places import open_servers
from tests.storm.storm import Size, run_storm

_CONDITIONS = {condition.name: condition for condition in CONDITIONS}


@pytest.fixture(params=peer_names())
def installed(request: pytest.FixtureRequest) -> Contender:
    """A peer; those whose toolchain is not here are skipped."""
    if "STORM_PEERS" not in os.environ:
        pytest.skip("set STORM_PEERS to install them, which takes minutes")
    try:
        return install(request.param, default_cache())
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.timeout(240)
async def test_what_finishes_in_time_is_finished_and_nothing_is_lost(installed: Contender) -> None:
    condition = _CONDITIONS["finishing"]
    async with open_servers() as servers, servers.place(condition) as place:
        outcome = await run_storm(installed, condition, place, Size(stops=1, workers=1))
    assert outcome.verdict.jobs > 0
    assert outcome.verdict.lost == 0
    assert outcome.verdict.overlaps == 0
    assert {mark.what for mark in outcome.evidence.marks} == {"started", "finished"}
    finished = {mark.token for mark in outcome.evidence.marks if mark.what == "finished"}
    assert finished == set(outcome.evidence.added)


@pytest.mark.timeout(240)
async def test_a_handler_that_can_be_told_hears_of_a_stop(installed: Contender) -> None:
    condition = _CONDITIONS["interrupted"]
    async with open_servers() as servers, servers.place(condition) as place:
        outcome = await run_storm(installed, condition, place, Size(stops=3, workers=1, at_once=1))
    assert outcome.verdict.lost == 0
    assert "interrupted" in {mark.what for mark in outcome.evidence.marks}
    assert outcome.verdict.interrupted > 0


def test_every_peer_says_how_it_is_set_up_and_what_to_know(installed: Contender) -> None:
    assert installed.settings
    assert installed.remarks
    assert installed.recovers_after is not None
