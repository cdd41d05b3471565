"""Who is taken for dead: a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import ActiveWorker, SilentWorker, dead_workers, given_back_at

RULES = SweepOptions(
    sweep_threshold=60.0, foreign_threshold=100.0, orphan_threshold=600.0, resilient_multiplier=2.5
)
OURS = "trio_graphile_0123"
RUST = "graphile_worker_0123"
NODE = "pool-0123"


def registered(worker_id: str, *, holds_resilient: bool = False) -> SilentWorker:
    return SilentWorker(
        worker_id=worker_id, is_registered=True, holds_resilient=holds_resilient, silent_for=0.0
    )


def orphan(worker_id: str) -> SilentWorker:
    return SilentWorker(worker_id=worker_id, is_registered=False, silent_for=0.0)


def test_nobody_is_dead_in_the_eyes_of_one_that_is_silent_itself() -> None:
    silent = [attrs.evolve(registered(worker_id), silent_for=101.0) for worker_id in (OURS, RUST)]
    assert dead_workers(silent, RULES, sweeper_id=OURS) == ()
    assert dead_workers(silent, RULES, sweeper_id="another") == (OURS, RUST)


@pytest.mark.parametrize(
    ("worker", "limit"),
    [
        (registered(OURS), 60.0),
        (registered(RUST), 100.0),
        (registered(OURS, holds_resilient=True), 150.0),
        (registered(RUST, holds_resilient=True), 250.0),
        (orphan(OURS), 60.0),
        (orphan(RUST), 600.0),
        (orphan(NODE), 600.0),
        (orphan("trio-graphile-"), 600.0),
        (orphan(""), 600.0),
    ],
)
def test_a_worker_is_dead_once_it_was_silent_for_longer_than_its_kind_may_be(
    worker: SilentWorker, limit: float
) -> None:
    assert dead_workers([attrs.evolve(worker, silent_for=limit)], RULES) == ()
    assert dead_workers([attrs.evolve(worker, silent_for=limit + 0.001)], RULES) == (worker.worker_id,)


def test_a_threshold_for_all_that_is_longer_holds_for_workers_of_another_kind_too() -> None:
    rules = SweepOptions(sweep_threshold=400.0)
    worker = attrs.evolve(registered(RUST), silent_for=301.0)
    assert dead_workers([worker], rules) == ()
    assert dead_workers([attrs.evolve(worker, silent_for=401.0)], rules) == (RUST,)


@pytest.mark.parametrize(
    ("worker", "limit"),
    [(registered(OURS), 60.0), (registered(RUST, holds_resilient=True), 250.0), (orphan(NODE), 600.0)],
)
def test_a_sweep_takes_back_once_patience_with_the_last_sign_has_ended(
    worker: SilentWorker, limit: float
) -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    assert given_back_at(worker, at, RULES) == at + timedelta(seconds=limit)


@pytest.mark.parametrize(
    ("metadata", "tasks"),
    [
        ({"tasks": ["a", "b"]}, ("a", "b")),
        ({"tasks": []}, ()),
        ({"tasks": ["a", 1, {}, None]}, ("a",)),
        ({"tasks": 5}, None),
        ({}, None),
        (["tasks"], None),
        (None, None),
    ],
)
def test_what_a_worker_says_of_its_tasks_is_any_value(
    metadata: object, tasks: tuple[str, ...] | None
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    worker = ActiveWorker(worker_id=RUST, last_heartbeat_at=now, started_at=now, metadata=metadata)
    assert worker.tasks == tasks
