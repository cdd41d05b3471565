"""The referee sees each thing that can go wrong, and nothing where nothing did."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs

from tests.storm.marks import Mark, What
from tests.storm.referee import Added, Departure, Evidence, Row, Verdict, judge, quantile

_numbers = itertools.count(1)


def mark(at: float, token: int, what: What, worker: str = "a", attempt: int | None = 1) -> Mark:
    return Mark(id=next(_numbers), at=at, token=token, what=what, attempt=attempt, worker=worker, pid=1)


def departure(
    worker: str, signalled_at: float, ended_at: float, *, grace: float = 1.0, **more: Any
) -> Departure:
    return Departure(worker=worker, signalled_at=signalled_at, grace=grace, ended_at=ended_at, **more)


def judged(marks: Sequence[Mark], *, jobs: int = 1, **more: Any) -> Verdict:
    added = {token: Added(kind="sleep") for token in range(1, jobs + 1)}
    return judge(Evidence(**{"added": added, "marks": marks, **more}))


INTERRUPTED = [mark(10.0, 1, "started"), mark(12.0, 1, "interrupted")]
STOP = departure("a", 11.0, 12.5)


def test_a_job_that_was_interrupted_and_ran_elsewhere_is_well() -> None:
    again = [mark(12.25, 1, "started", "b"), mark(13.0, 1, "finished", "b")]
    verdict = judged([*INTERRUPTED, *again], departures=[STOP])
    assert verdict.faults == {}
    assert (verdict.interrupted, verdict.unresumed, verdict.repeated) == (1, 0, 0)
    assert verdict.elsewhere == [0.25]
    assert verdict.exits == [1.5]
    assert verdict.attempts_used == 0


def test_a_job_that_nobody_has_any_more_is_lost() -> None:
    assert judged(INTERRUPTED, departures=[STOP]).faults == {"lost": 1}
    assert judged([], rows=[Row(token=1, state="dead", attempts=25)]).lost == 1
    assert judged([], rows=[Row(token=1, state="waiting", attempts=0)]).lost == 0
    assert judged([mark(1.0, 1, "started"), mark(2.0, 1, "finished")]).lost == 0


def test_a_job_that_did_not_run_again_is_counted_apart() -> None:
    verdict = judged(INTERRUPTED, departures=[STOP], rows=[Row(token=1, state="waiting", attempts=0)])
    assert (verdict.interrupted, verdict.unresumed, verdict.elsewhere) == (1, 1, [])


def test_runs_that_overlap_are_seen() -> None:
    first = [mark(1.0, 1, "started"), mark(3.0, 1, "finished")]
    second = [mark(2.0, 1, "started", "b"), mark(4.0, 1, "finished", "b")]
    third = [mark(3.5, 1, "started", "c"), mark(5.0, 1, "finished", "c")]
    assert judged([*first, *second]).faults == {"twice at once": 1}
    assert judged([*first, *second, *third]).overlaps == 2
    assert judged([*first, *third]).overlaps == 0
    assert judged([*first, *third]).repeated == 1


def test_a_run_without_an_end_is_over_when_its_handler_was_last_seen_or_else_its_process() -> None:
    marks = [
        mark(1.0, 1, "started"),
        mark(5.0, 1, "started", "b"),
        mark(6.0, 1, "finished", "b"),
    ]
    assert judged(marks, departures=[departure("a", 4.0, 5.5)]).overlaps == 1
    assert judged(marks, departures=[departure("a", 4.0, 5.5)], beats={(1, "a"): 4.9}).overlaps == 0
    assert judged(marks, departures=[departure("a", 4.0, 5.05)]).overlaps == 0, "an end is seen late"


def test_threads_that_are_documented_to_go_on_are_counted_apart() -> None:
    marks = [
        mark(1.0, 1, "started"),
        mark(2.0, 1, "started", "b"),
        mark(3.0, 1, "finished", "b"),
    ]
    verdict = judged(marks, added={1: Added(kind="deaf")}, beats={(1, "a"): 2.5})
    assert (verdict.overlaps, verdict.deaf_overlaps, verdict.faults) == (0, 1, {})


def test_two_jobs_of_a_queue_at_once_are_seen() -> None:
    queued = {1: Added(kind="queued", queue="q"), 2: Added(kind="queued", queue="q")}
    marks = [
        mark(1.0, 1, "started"),
        mark(2.0, 2, "started"),
        mark(3.0, 1, "finished"),
        mark(4.0, 2, "finished"),
    ]
    assert judged(marks, added=queued).faults == {"two of a queue at once": 1}
    apart = {**queued, 2: Added(kind="queued", queue="r")}
    assert judged(marks, added=apart).faults == {}


def test_an_attempt_that_no_failure_explains_was_used_up_by_the_stop() -> None:
    again = [mark(13.0, 1, "started", "b", 2), mark(14.0, 1, "finished", "b", 2)]
    assert judged([*INTERRUPTED, *again], departures=[STOP]).faults == {"attempts used": 1}
    waiting = [Row(token=1, state="waiting", attempts=1)]
    assert judged(INTERRUPTED, departures=[STOP], rows=waiting).attempts_used == 1
    failed = [mark(10.0, 1, "started"), mark(12.0, 1, "failed")]
    assert judged([*failed, *again], departures=[STOP]).attempts_used == 0
    assert judged(failed, rows=waiting).attempts_used == 0
    prefetched = [mark(13.0, 1, "started", "b", 3), mark(14.0, 1, "finished", "b", 3)]
    assert judged(prefetched).attempts_used == 2, "of a job that never ran where it was held"


def test_a_project_that_tells_no_attempts_is_not_said_to_keep_them() -> None:
    marks = [attrs.evolve(each, attempt=None) for each in INTERRUPTED]
    assert judged(marks, rows=[Row(token=1, state="waiting", attempts=None)]).attempts_used is None


def test_what_is_left_locked_and_who_is_late_or_falls_is_counted() -> None:
    verdict = judged(
        [mark(1.0, 1, "started"), mark(2.0, 1, "finished")],
        departures=[
            departure("a", 4.0, 12.0, was_late=True),
            departure("b", 5.0, 5.0, by_itself=True),
            departure("c", 20.0, 21.0, under_load=False),
        ],
        left_locked={("a", "job 1"), ("a", "a lock")},
    )
    assert verdict.faults == {"left locked": 2, "late exits": 1, "crashes": 1}
    assert (verdict.stops, verdict.exits) == (1, [8.0])


def test_an_effect_that_took_place_twice_is_seen() -> None:
    rows = [Row(token=1, state="finished", attempts=None)] * 2
    assert judged([], rows=rows).repeated == 1
    assert judged([], rows=rows[:1]).repeated == 0


def test_the_same_worker_may_run_a_job_again() -> None:
    marks = [*INTERRUPTED, mark(13.0, 1, "started"), mark(14.0, 1, "finished")]
    verdict = judged(marks)
    assert (verdict.faults, verdict.overlaps) == ({}, 0)


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile([], 0.5) is None
    assert quantile([1.0], 0.99) == 1.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert quantile(list(range(200)), 1.0) == 199
