"""Judges what was seen: plain functions over marks, processes and rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import attrs

from tests.storm.marks import Mark

SEEN_LATE = 0.1
"""By how much a parent may see the end of a process later than it was, in seconds."""
DEAF = "deaf"
"""The kind of handlers in threads that do not ask whether to stop: they are documented to run on."""
FINISHED, WAITING, RUNNING, DEAD = "finished", "waiting", "running", "dead"


@attrs.frozen(kw_only=True)
class Departure:
    """The end of one process, with times in seconds since 1970."""

    worker: str
    signalled_at: float
    grace: float
    """How long its handlers were allowed to go on: the grace period, or less if a second signal came."""
    ended_at: float
    was_late: bool = False
    """Whether it had to be killed."""
    by_itself: bool = False
    """Whether it ended though nobody had told it to."""
    under_load: bool = True
    """Whether there was something to do; not so when the storm was over."""

    @property
    def seconds(self) -> float:
        return self.ended_at - self.signalled_at


@attrs.frozen(kw_only=True)
class Row:
    """A job as its project's table has it in the end."""

    token: int
    state: str
    attempts: int | None
    holder: str | None = None


@attrs.frozen(kw_only=True)
class Added:
    """A job that was added."""

    kind: str
    queue: str | None = None
    """The name of a queue in which jobs must run one after the other."""


@attrs.frozen(kw_only=True)
class Evidence:
    """All that is known when everybody has gone home."""

    added: Mapping[int, Added]
    marks: Sequence[Mark]
    beats: Mapping[tuple[int, str], float] = attrs.field(factory=dict)
    """By token and worker, when a handler was last known to live that may end without a mark."""
    departures: Sequence[Departure] = ()
    """The ends of the storm, and those after it."""
    rows: Sequence[Row] = ()
    left_locked: Collection[tuple[str, str]] = ()
    """What was locked by a process that had ended: the process and the thing."""


@attrs.frozen(kw_only=True)
class Run:
    """One run of a handler."""

    token: int
    worker: str
    attempt: int | None
    started_at: float
    ending: str | None
    """Its last mark; None if it could write none."""
    over_at: float
    """When it was certainly alive for the last time."""


@attrs.frozen(kw_only=True)
class Verdict:
    """The counts. None means that the project does not tell."""

    jobs: int
    stops: int
    interrupted: int
    """How many runs were interrupted by a stop."""
    lost: int
    overlaps: int
    deaf_overlaps: int
    """The same, of handlers in threads that do not ask whether to stop."""
    queue_overlaps: int
    attempts_used: int | None
    left_locked: int
    late_exits: int
    crashes: int
    """How many processes ended though nobody had told them to."""
    repeated: int
    """How many jobs came to their end more than once."""
    unresumed: int
    """How many interrupted jobs did not run elsewhere before the storm was over."""
    elsewhere: Sequence[float]
    """Of each interrupted job that did, the seconds from the signal, less the grace period."""
    exits: Sequence[float]
    """How long each process took to end after its signal."""

    @property
    def faults(self) -> dict[str, int]:
        """Return the counts that must be 0, if they are not."""
        counted = {
            "lost": self.lost,
            "twice at once": self.overlaps,
            "two of a queue at once": self.queue_overlaps,
            "attempts used": self.attempts_used or 0,
            "left locked": self.left_locked,
            "late exits": self.late_exits,
            "crashes": self.crashes,
        }
        return {name: count for name, count in counted.items() if count}


def judge(evidence: Evidence) -> Verdict:
    """Count what became of the jobs."""
    runs = runs_of(evidence)
    resumptions = list(_resumptions(runs, evidence.departures))
    seconds = [delay for delay in resumptions if delay is not None]
    asked = [each for each in evidence.departures if each.under_load and not each.by_itself]
    of_kind = _overlapping(runs, evidence.added)
    return Verdict(
        jobs=len(evidence.added),
        stops=len(asked),
        interrupted=len(resumptions),
        lost=len(_lost(evidence, runs)),
        overlaps=sum(kind != DEAF for kind in of_kind),
        deaf_overlaps=sum(kind == DEAF for kind in of_kind),
        queue_overlaps=_queue_overlaps(runs, evidence.added),
        attempts_used=_attempts_used(evidence, runs),
        left_locked=len(evidence.left_locked),
        late_exits=sum(departure.was_late for departure in evidence.departures),
        crashes=sum(departure.by_itself for departure in evidence.departures),
        repeated=_repeated(evidence, runs),
        unresumed=len(resumptions) - len(seconds),
        elsewhere=sorted(seconds),
        exits=sorted(departure.seconds for departure in asked),
    )


def quantile(values: Sequence[float], part: float) -> float | None:
    """Return the value that so large a part of the sorted values does not exceed; None if there are none."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else None


def runs_of(evidence: Evidence) -> dict[int, list[Run]]:
    """Return the runs of each job, as they began."""
    ended_at = {departure.worker: departure.ended_at for departure in evidence.departures}
    open_marks: dict[tuple[int, str], Mark] = {}
    runs: dict[int, list[Run]] = defaultdict(list)

    def close(begun: Mark, end: Mark | None, over_at: float) -> None:
        runs[begun.token].append(
            Run(
                token=begun.token,
                worker=begun.worker,
                attempt=begun.attempt,
                started_at=begun.at,
                ending=end.what if end else None,
                over_at=over_at,
            )
        )

    for mark in sorted(evidence.marks, key=lambda mark: (mark.at, mark.id)):
        key = mark.token, mark.worker
        begun = open_marks.pop(key, None)
        if mark.what == "started":
            if begun is not None:  # it ran here before, and was killed without a word
                close(begun, None, begun.at)
            open_marks[key] = mark
        elif begun is not None:
            close(begun, mark, mark.at)
    for (token, worker), begun in open_marks.items():
        seen = evidence.beats.get((token, worker), ended_at.get(worker, begun.at) - SEEN_LATE)
        close(begun, None, max(begun.at, seen))
    for of_one in runs.values():
        of_one.sort(key=lambda run: run.started_at)
    return runs


def _lost(evidence: Evidence, runs: Mapping[int, Sequence[Run]]) -> set[int]:
    """What is locked by somebody who has ended is counted as that, not as lost."""
    there = {row.token for row in evidence.rows if row.state != DEAD}
    finished = {token for token, of_one in runs.items() if any(run.ending == FINISHED for run in of_one)}
    return set(evidence.added) - there - finished


def _overlapping(runs: Mapping[int, Sequence[Run]], added: Mapping[int, Added]) -> list[str]:
    """Return the kind of each job whose run began before an earlier one was over, once for each such run."""
    return [added[token].kind for token, of_one in runs.items() for _ in range(_count_overlaps(of_one))]


def _queue_overlaps(runs: Mapping[int, Sequence[Run]], added: Mapping[int, Added]) -> int:
    by_queue: dict[str, list[Run]] = defaultdict(list)
    for token, of_one in runs.items():
        if (queue := added[token].queue) is not None:
            by_queue[queue] += of_one
    return sum(_count_overlaps(sorted(each, key=lambda run: run.started_at)) for each in by_queue.values())


def _count_overlaps(sorted_runs: Iterable[Run]) -> int:
    count, over_at = 0, 0.0
    for run in sorted_runs:
        count += run.started_at < over_at
        over_at = max(over_at, run.over_at)
    return count


def _attempts_used(evidence: Evidence, runs: Mapping[int, Sequence[Run]]) -> int | None:
    """Return how many attempts are missing that no failure of a handler explains."""
    used, is_told = 0, False
    waiting = {row.token: row.attempts for row in evidence.rows if row.state == WAITING}
    for token in evidence.added:
        of_one = runs.get(token, ())
        failures = sum(run.ending == "failed" for run in of_one)
        counts = [run.attempt for run in of_one[-1:] if run.attempt is not None]
        before = [sum(run.ending == "failed" for run in of_one[:-1]) + 1] * len(counts)
        if (attempts := waiting.get(token)) is not None:
            counts.append(attempts)
            before.append(failures)
        is_told = is_told or bool(counts)
        used += max([0, *(count - least for count, least in zip(counts, before, strict=True))])
    return used if is_told else None


def _repeated(evidence: Evidence, runs: Mapping[int, Sequence[Run]]) -> int:
    by_marks = {token for token, each in runs.items() if sum(run.ending == FINISHED for run in each) > 1}
    effects = [row.token for row in evidence.rows if row.state == FINISHED]
    return len(by_marks | {token for token in effects if effects.count(token) > 1})


def _resumptions(
    runs: Mapping[int, Sequence[Run]], departures: Iterable[Departure]
) -> Iterator[float | None]:
    """Yield of each run that a stop interrupted how long after it the job ran elsewhere; None for never."""
    by_worker = {departure.worker: departure for departure in departures}
    for of_one in runs.values():
        for run, following in pairwise([*of_one, None]):
            assert run is not None
            departure = by_worker.get(run.worker)
            # Of a run that ended without a word it is known only that it went on until then, at least.
            late = SEEN_LATE if run.ending is None else 0.0
            if (
                departure is None
                or run.ending in {FINISHED, "failed"}
                or run.over_at + late < departure.signalled_at
            ):
                continue
            if following is None:
                yield None
            else:
                yield max(0.0, following.started_at - departure.signalled_at - departure.grace)
