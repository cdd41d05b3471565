"""What a local queue holds stands in the order in which it is taken."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.jobs import NOON, make_job
from trio_graphile._worker.held_jobs import HeldJobs


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def test_what_comes_later_stands_behind_what_is_as_good() -> None:
    held = HeldJobs([make_job(1), make_job(2)])
    held.add([make_job(3), make_job(4, priority=1)])
    assert [job.id for job in held] == [1, 2, 3, 4]


def test_what_comes_later_and_is_better_is_taken_first() -> None:
    held = HeldJobs([make_job(1), make_job(2, priority=1), make_job(3, priority=2)])
    held.add([make_job(4, priority=-1), make_job(5, run_at=at(-1)), make_job(6, priority=1, run_at=at(1))])
    assert [held.popleft().id for _ in range(6)] == [4, 5, 1, 2, 6, 3]


@given(st.lists(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 3)))))
def test_they_are_in_order_however_they_came(claims: list[list[tuple[int, int]]]) -> None:
    held, ids = HeldJobs(), iter(range(1000))
    for claim in claims:
        held.add(
            [make_job(next(ids), priority=priority, run_at=at(time)) for priority, time in sorted(claim)]
        )
    places = [(job.priority, job.run_at, job.id) for job in held]
    assert places == sorted(places)
    assert len(places) == sum(map(len, claims))
