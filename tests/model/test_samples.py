"""Points of charts, made of samples with gaps, counters that fall back, and workers that come and go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trio_graphile._model.samples import (
    HistoryPoint,
    Sample,
    SlowTask,
    Span,
    TaskRuns,
    gained,
    history,
    runs_of,
    slowest,
)

NOON = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
RUNS = TaskRuns(runs=4, failures=1, run_seconds=8.0, run_max=5.0, wait_seconds=2.0)


def minute(number: int, **fields: object) -> Sample:
    return Sample(at=NOON + timedelta(minutes=number), **fields)  # type: ignore[arg-type]


def points_of(samples: list[Sample], span: Span = Span.HOUR) -> dict[int, HistoryPoint]:
    """Return the points by the minute after noon in which they begin, until a quarter past."""
    points = history(samples, span, NOON + timedelta(minutes=15, seconds=7))
    return {(point.at - NOON) // timedelta(minutes=1): point for point in points}


@pytest.mark.parametrize(("span", "count", "first"), [(Span.HOUR, 60, -44), (Span.DAY, 96, -1410)])
def test_each_step_has_a_point_though_nothing_is_known(span: Span, count: int, first: int) -> None:
    points = points_of([], span)
    assert len(points) == count
    assert (min(points), max(points)) == (first, 15)
    assert all(point == HistoryPoint(at=point.at) for point in points.values())


def test_a_minute_has_what_stood_at_its_end_and_came_since_the_one_before() -> None:
    before = minute(9, ready=9, inserted=100, deleted=50)
    sample = minute(
        10,
        ready=1,
        scheduled=2,
        locked=3,
        failed=4,
        oldest_ready=5.5,
        inserted=107,
        deleted=53,
        tasks={"a": RUNS, "b": TaskRuns(runs=1, run_seconds=2.0, run_max=2.0, wait_seconds=8.0)},
    )
    points = points_of([before, sample])
    assert points[10] == HistoryPoint(
        at=NOON + timedelta(minutes=10),
        ready=1,
        scheduled=2,
        locked=3,
        failed=4,
        oldest_ready=5.5,
        added=7,
        gone=3,
        completed=4,
        failures=1,
        wait=2.0,
        run=2.0,
    )
    assert (points[9].ready, points[9].added, points[9].completed) == (9, None, None)
    assert points[11] == HistoryPoint(at=points[11].at)


def test_a_counter_that_fell_back_says_nothing_for_a_while() -> None:
    samples = [minute(number, inserted=inserted) for number, inserted in enumerate([100, 110, 3, 5])]
    points = points_of(samples)
    assert [points[number].added for number in range(4)] == [None, 10, None, 2]
    assert points_of(samples, Span.DAY)[0].added is None


def test_what_came_in_a_long_gap_belongs_to_no_step() -> None:
    samples = [
        minute(0, inserted=0, tasks={}),
        minute(3, inserted=5, tasks={"a": RUNS}),
        minute(7, inserted=50, tasks={"a": RUNS}),
    ]
    points = points_of(samples)
    assert [points[number].added for number in (3, 7)] == [5, None]
    assert [points[number].completed for number in (3, 7)] == [3, None]


def test_a_quarter_of_an_hour_adds_up_its_minutes() -> None:
    samples = [
        minute(number, ready=number, inserted=10 * number, deleted=0, tasks={"a": RUNS})
        for number in range(-1, 15)
    ]
    point = points_of(samples, Span.DAY)[0]
    assert (point.ready, point.added, point.gone) == (14, 150, 0)
    assert (point.completed, point.failures, point.run) == (45, 15, 2.0)


def test_without_runs_there_is_no_mean() -> None:
    point = points_of([minute(0), minute(1, tasks={})])[1]
    assert (point.completed, point.failures, point.wait, point.run) == (0, 0, None, None)


# --- runs -----------------------------------------------------------------------------------------


def test_workers_come_and_go() -> None:
    before = {
        "stays": {"a": TaskRuns(runs=10, failures=1, run_seconds=5.0, run_max=1.0, wait_seconds=1.0)},
        "goes": {"a": TaskRuns(runs=99)},
        "idles": {"a": RUNS},
    }
    after = {
        "stays": {"a": TaskRuns(runs=12, failures=2, run_seconds=8.0, run_max=1.0, wait_seconds=1.5)},
        "idles": {"a": RUNS},
        "comes": {"b": TaskRuns(runs=1, run_seconds=9.0, run_max=9.0)},
    }
    assert gained(before, after) == {
        "a": TaskRuns(runs=2, failures=1, run_seconds=3.0, run_max=1.5, wait_seconds=0.5),
        "b": TaskRuns(runs=1, run_seconds=9.0, run_max=9.0),
    }


def test_a_new_record_is_the_longest_run_and_who_counts_anew_has_begun_anew() -> None:
    before = {"w": {"a": TaskRuns(runs=5, run_seconds=5.0, run_max=2.0), "b": TaskRuns(runs=9)}}
    after = {"w": {"a": TaskRuns(runs=7, run_seconds=9.0, run_max=3.0), "b": TaskRuns(runs=2)}}
    gains = gained(before, after)
    assert (gains["a"].runs, gains["a"].run_max, gains["b"].runs) == (2, 3.0, 2)


def test_of_many_tasks_the_busiest_are_kept() -> None:
    tasks = {f"t{number}": TaskRuns(runs=1, run_seconds=float(number)) for number in range(300)}
    gains = gained({}, {"w": tasks})
    assert len(gains) == 200
    assert min(runs.run_seconds for runs in gains.values()) == 100


@pytest.mark.parametrize(
    "metadata",
    [None, 1, [], {}, {"statistics": None}, {"statistics": {"tasks": []}}, {"statistics": {"tasks": {}}}],
)
def test_who_says_nothing_of_its_runs_has_none(metadata: object) -> None:
    assert runs_of(metadata) == {}


@pytest.mark.parametrize("strange", [-1, "7", None, True, 1e300, []])
def test_numbers_that_are_none_are_zero(strange: object) -> None:
    said = {"statistics": {"tasks": {"a": {"runs": strange, "run_seconds": strange}, "b": 1}}}
    assert runs_of(said) == {"a": TaskRuns(), "b": TaskRuns()}


def test_the_slowest_tasks_come_first() -> None:
    samples = [
        minute(0, tasks={"quick": TaskRuns(runs=10, run_seconds=1.0, run_max=0.9), "slow": RUNS}),
        minute(1, tasks={"slow": RUNS, "idle": TaskRuns()}),
        minute(2),
    ]
    quick = SlowTask(task_identifier="quick", runs=10, failures=0, mean_run=0.1, max_run=0.9)
    slow = SlowTask(task_identifier="slow", runs=8, failures=2, mean_run=2.0, max_run=5.0)
    assert slowest(samples) == (slow, quick)
    assert slowest(samples, 1) == (slow,)
