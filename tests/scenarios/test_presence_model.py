"""Presence is sound in every order of events, and each of its rules is needed for that."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.presence_model import Rules, explore

pytestmark = pytest.mark.dealt


def test_no_job_is_taken_from_a_worker_that_lives_and_has_not_fenced_itself() -> None:
    found = explore(Rules())
    assert found.violation is None
    assert found.takes_from_dead
    assert found.states > 50_000  # else the model has lost what it is about


@pytest.mark.parametrize(
    "broken",
    [
        {"fence": 2},
        {"draws_keys": False},
        {"parks_silent_sessions": False},
        {"ends_older_sessions": False},
        {"counts_ended_as_lost": False},
        {"takes_through_a_new_session": False},
        {"sees_crashes": False},
        {"renounces": False},
        {"ends_unheard": True},
        {"refused_by_others": True},
        {"is_direct": False},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_a_rule_that_is_broken_takes_a_job_from_a_live_worker(broken: dict[str, Any]) -> None:
    assert explore(Rules(**broken)).violation is not None


BEHIND_A_PROXY = {
    "is_direct": False,
    "ends_unheard": True,
    "silence_fences": True,
    "trusts_kernel": False,
    "believes_refusals": False,
}


def test_behind_a_proxy_no_job_is_taken_from_a_worker_that_any_silence_fences() -> None:
    found = explore(Rules(**BEHIND_A_PROXY))
    assert found.violation is None
    assert found.takes_from_dead


@pytest.mark.parametrize(
    "rule", [{"silence_fences": False}, {"trusts_kernel": True}, {"believes_refusals": True}], ids=str
)
def test_behind_a_proxy_each_of_its_rules_is_needed(rule: dict[str, Any]) -> None:
    assert explore(Rules(**{**BEHIND_A_PROXY, **rule})).violation is not None


@pytest.mark.parametrize(
    "outage",
    [
        ("stop", "start"),
        ("crash", "start"),
        ("smart shutdown", "stop", "start"),
        ("smart shutdown", "network False False", "stop", "start", "network True True"),
        ("freeze", "thaw"),
        ("network False False", "network True True"),
        ("network True False", "network True True"),
        ("network False True", "network True True"),
        ("suspend", "resume"),
        ("holder terminated", "holder terminated"),
        ("client's side reset",),
        ("server's side reset",),
    ],
    ids=", ".join,
)
def test_no_handler_is_interrupted_in_an_outage_however_long(outage: tuple[str, ...]) -> None:
    found = explore(Rules(fence=3, grace=5, is_prompt=True), outage)
    assert found.violation is None
    assert found.fences is None
