"""A new outcome is forgotten nowhere: each of the union is written, counted, reported and told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import attrs
import pytest
import trio

from tests.support.jobs import make_job
from tests.worker.rows import Rows
from trio_graphile import ObserverOptions, ShutdownReport
from trio_graphile._interceptors.chains import Chains
from trio_graphile._model.outcomes import (
    Completed,
    Failed,
    Lost,
    Outcome,
    Removed,
    Returned,
    Settled,
    Snoozed,
    counts_of,
)
from trio_graphile._worker.counts import Counts
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.job_events import ENDINGS, JobEvents
from trio_graphile._worker.recorder import Recorder
from trio_graphile.hooks import Event, Hooks

OUTCOMES: tuple[Outcome, ...] = (
    Completed(make_job(1)),
    Settled(make_job(1)),
    Failed(make_job(1), "no"),
    Returned(make_job(1)),
    Snoozed(make_job(1), delay=60),
    Removed(make_job(1)),
    Lost(make_job(1)),
)


async def record(outcome: Outcome, observe: Callable[[Event], None]) -> Counts:
    """Record an outcome, and return what was counted."""
    hooks, rows = Hooks(), Rows()
    hooks.on(Event, observe)
    emitter = Emitter(worker_id="me", chains=Chains.of(hooks), options=ObserverOptions())
    recorder = Recorder(
        session=rows,
        worker_id="me",
        ledger=rows.ledger,
        announcements=rows.announcements,
        job_events=JobEvents(emitter),
    )
    rows.claim(outcome.job)

    async def put() -> None:
        recorder.put(outcome)
        await recorder.flush()

    with trio.fail_after(10):
        await emitter.run_beside(put, limit=5)
    return recorder.counts


def test_no_outcome_is_left_out_here() -> None:
    assert set(map(type, OUTCOMES)) == set(get_args(Outcome))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
async def test_each_outcome_is_recorded_and_counted_once_and_has_an_event(outcome: Outcome) -> None:
    events: list[Event] = []
    counts = attrs.asdict(await record(outcome, events.append))
    assert sum(counts.values()) == 1
    [event] = events
    assert type(event) in ENDINGS
    report = ShutdownReport(worker_id="me", **counts)
    assert counts_of(report) == counts
