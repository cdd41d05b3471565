"""The history of a queue: samples that are taken now and then, and points of charts made of them. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import attrs

_LONGEST_GAP = timedelta(minutes=3)
"""The longest time between two samples of a chart. Of changes in a longer gap we do not know when they
happened."""
_MOST_TASKS = 200  # of one fleet
_MOST = 1e15
"""Numbers beyond this, which another program wrote, are not believed."""


@attrs.frozen(kw_only=True)
class TaskRuns:
    """Runs of one task that have ended. Durations are seconds."""

    runs: int = 0
    failures: int = 0
    run_seconds: float = 0.0
    """How long they took, all together."""
    run_max: float = 0.0
    """How long the longest run took."""
    wait_seconds: float = 0.0
    """How long their jobs had been due when they were claimed, all together."""


FleetRuns = Mapping[str, Mapping[str, TaskRuns]]
"""The runs of each worker since it started, by task."""


@attrs.frozen(kw_only=True)
class Sample:
    """The state of a queue at one moment. None means unknown."""

    at: datetime
    ready: int | None = None
    scheduled: int | None = None
    locked: int | None = None
    failed: int | None = None
    estimated: tuple[str, ...] = ()
    """The names of the fields that are estimates."""
    oldest_ready: float | None = None
    """How long the job that has waited longest had been due, in seconds; None also if none waited."""
    inserted: int | None = None
    """How many jobs were added since the server began to count; after a crash it begins anew."""
    deleted: int | None = None
    tasks: Mapping[str, TaskRuns] | None = None
    """The runs that workers have reported since the sample before, by task."""


class Span(enum.StrEnum):
    """How far a chart looks back."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """The length of the span."""
        return timedelta(hours=1) if self is Span.HOUR else timedelta(days=1)

    @property
    def step(self) -> timedelta:
        """The length that one point of the chart stands for."""
        return timedelta(minutes=1) if self is Span.HOUR else timedelta(minutes=15)


@attrs.frozen(kw_only=True)
class HistoryPoint:
    """One step of a chart. None means unknown. Durations are seconds."""

    at: datetime
    """When the step begins."""
    ready: int | None = None
    """The count at the last sample of the step, as are the counts that follow."""
    scheduled: int | None = None
    locked: int | None = None
    failed: int | None = None
    oldest_ready: float | None = None
    added: int | None = None
    """How many jobs were added in the step, by any program."""
    gone: int | None = None
    """How many jobs were deleted: completed, or removed."""
    completed: int | None = None
    """How many runs succeeded, of workers that report them."""
    failures: int | None = None
    wait: float | None = None
    """How long the jobs of these runs had been due when they were claimed, on average."""
    run: float | None = None
    """How long these runs took, on average."""


@attrs.frozen(kw_only=True)
class SlowTask:
    """A task and how long its runs take, in seconds."""

    task_identifier: str
    runs: int
    failures: int
    mean_run: float
    max_run: float
    """The time of the longest known run; there may have been longer ones."""


# --- what workers tell ----------------------------------------------------------------------------


def runs_of(metadata: Any) -> dict[str, TaskRuns]:
    """Return the runs that a worker reports by task; none if it is of another kind, which reports none."""
    return runs_of_json(_statistics(metadata).get("tasks"))


def jobs_held(metadata: Any) -> int | None:
    """Return how many jobs a worker reports to run or hold; None if it does not report it."""
    statistics = _statistics(metadata)
    if not {"busy", "held"} <= statistics.keys():
        return None
    return int(_number(statistics["busy"]) + _number(statistics["held"]))


def runs_of_json(by_task: Any) -> dict[str, TaskRuns]:
    """Return runs by task from plain values, which any program may have written."""
    return {
        identifier: TaskRuns(
            runs=int(_number(said.get("runs"))),
            failures=int(_number(said.get("failures"))),
            run_seconds=_number(said.get("run_seconds")),
            run_max=_number(said.get("run_max")),
            wait_seconds=_number(said.get("wait_seconds")),
        )
        for identifier, said in (
            (identifier, _mapping(said)) for identifier, said in _mapping(by_task).items()
        )
    }


def _statistics(metadata: Any) -> Mapping[str, Any]:
    return _mapping(_mapping(metadata).get("statistics"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    return value if type(value) in (int, float) and 0 <= value < _MOST else 0


def gained(before: FleetRuns, after: FleetRuns) -> dict[str, TaskRuns]:
    """Return the runs that were added between two samples of a fleet, of at most 200 tasks.

    A worker that is only in the second has started since the first. If one is only in the first, its last
    runs are unknown.
    """
    gains: dict[str, TaskRuns] = {}
    for worker_id, tasks in after.items():
        known = before.get(worker_id, {})
        for identifier, total in tasks.items():
            gain = _gain(known.get(identifier), total)
            if gain.runs:
                gains[identifier] = _together(gains.get(identifier), gain)
    busiest = sorted(gains.items(), key=lambda gain: -gain[1].run_seconds)
    return dict(busiest[:_MOST_TASKS])


def _gain(before: TaskRuns | None, after: TaskRuns) -> TaskRuns:
    if before is None or after.runs < before.runs:  # the worker has started to count anew
        return after
    runs, seconds = after.runs - before.runs, max(0.0, after.run_seconds - before.run_seconds)
    return TaskRuns(
        runs=runs,
        failures=max(0, after.failures - before.failures),
        run_seconds=seconds,
        # Unless the record was broken, the longest of them is unknown: it took no less than the mean.
        run_max=after.run_max if after.run_max > before.run_max else seconds / max(1, runs),
        wait_seconds=max(0.0, after.wait_seconds - before.wait_seconds),
    )


def _together(one: TaskRuns | None, other: TaskRuns) -> TaskRuns:
    if one is None:
        return other
    return TaskRuns(
        runs=one.runs + other.runs,
        failures=one.failures + other.failures,
        run_seconds=one.run_seconds + other.run_seconds,
        run_max=max(one.run_max, other.run_max),
        wait_seconds=one.wait_seconds + other.wait_seconds,
    )


# --- charts ---------------------------------------------------------------------------------------


def history(samples: Sequence[Sample], span: Span, until: datetime) -> tuple[HistoryPoint, ...]:
    """Return the points of a chart that ends at a time, the oldest first; samples are sorted by time.

    Steps begin at whole multiples of their length. The first one is complete if `samples` has the sample
    before it.
    """
    step = span.step
    last = _start_of_step(until, step)
    first = last - span.length + step
    by_step: dict[datetime, list[_Seen]] = {}
    for seen in _seen(samples):
        by_step.setdefault(_start_of_step(seen.sample.at, step), []).append(seen)
    starts = (first + number * step for number in range(span.length // step))
    return tuple(_point(start, by_step.get(start, [])) for start in starts)


def _start_of_step(at: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (at - epoch) // step * step


@attrs.frozen
class _Seen:
    """A sample, and the changes since the one before."""

    sample: Sample
    added: int | None = None
    gone: int | None = None
    fell_back: bool = False
    """Whether the server has begun to count anew."""


def _seen(samples: Sequence[Sample]) -> Iterator[_Seen]:
    if samples:
        yield _Seen(attrs.evolve(samples[0], tasks=None))  # its runs have no known beginning
    for before, after in pairwise(samples):
        if after.at - before.at > _LONGEST_GAP:
            yield _Seen(attrs.evolve(after, tasks=None))
            continue
        added = _difference(before.inserted, after.inserted)
        gone = _difference(before.deleted, after.deleted)
        if (added or 0) < 0 or (gone or 0) < 0:
            yield _Seen(after, fell_back=True)
        else:
            yield _Seen(after, added, gone)


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _point(start: datetime, seen: Sequence[_Seen]) -> HistoryPoint:
    if not seen:
        return HistoryPoint(at=start)
    latest = seen[-1].sample
    told = [one.sample.tasks for one in seen if one.sample.tasks is not None]
    runs = _sum(runs for tasks in told for runs in tasks.values())
    counts_anew = any(one.fell_back for one in seen)
    return HistoryPoint(
        at=start,
        ready=latest.ready,
        scheduled=latest.scheduled,
        locked=latest.locked,
        failed=latest.failed,
        oldest_ready=latest.oldest_ready,
        added=None if counts_anew else _sum_of_known(one.added for one in seen),
        gone=None if counts_anew else _sum_of_known(one.gone for one in seen),
        completed=max(0, runs.runs - runs.failures) if told else None,
        failures=runs.failures if told else None,
        wait=runs.wait_seconds / runs.runs if runs.runs else None,
        run=runs.run_seconds / runs.runs if runs.runs else None,
    )


def _sum_of_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _sum(all_runs: Iterable[TaskRuns]) -> TaskRuns:
    total = TaskRuns()
    for runs in all_runs:
        total = _together(total, runs)
    return total


def slowest(samples: Iterable[Sample], limit: int = 10) -> tuple[SlowTask, ...]:
    """Return the tasks whose runs took longest on average, the slowest first."""
    totals: dict[str, TaskRuns] = {}
    for sample in samples:
        for identifier, runs in (sample.tasks or {}).items():
            totals[identifier] = _together(totals.get(identifier), runs)
    tasks = [
        SlowTask(
            task_identifier=identifier,
            runs=total.runs,
            failures=total.failures,
            mean_run=total.run_seconds / total.runs,
            max_run=total.run_max,
        )
        for identifier, total in totals.items()
        if total.runs
    ]
    return tuple(sorted(tasks, key=lambda task: (-task.mean_run, task.task_identifier))[:limit])
