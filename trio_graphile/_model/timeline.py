"""The past of a job, as far as its row shows it, and every attempt that is still to come."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime

import attrs

from trio_graphile._model.backoff import CONSTANT_FROM, retry_delay
from trio_graphile._model.counted import counted
from trio_graphile._model.inspection import JobState, ListedJob
from trio_graphile._model.instants import FIRST, LAST, moved
from trio_graphile._model.jobs import Job

MOST_LISTED = 25
"""How many future attempts are listed one by one."""
_GIVEN_BACK = "Job recovered after worker interruption"


class TimelineKind(enum.StrEnum):
    """The kinds of events in the life of a job."""

    ADDED = "added"
    REPLACED = "replaced"
    """The job was added again under its key."""
    TRIED = "tried"
    """The job was tried, and failed or was given back."""
    LOCKED = "locked"
    """A worker has taken the job."""
    GAVE_UP = "gave-up"
    """The job has no attempt left."""
    ATTEMPT = "attempt"
    """The job will be tried, unless it succeeds before."""
    MORE = "more"
    """The job will be tried further times, which are not listed."""
    GIVES_UP = "gives-up"
    """The job will have no attempt left."""


@attrs.frozen(kw_only=True)
class TimelineEntry:
    """One event, past or future."""

    kind: TimelineKind
    text: str
    at: datetime | None = None
    """The time; None if it is unknown. The last time that Python has stands for never."""
    is_about: bool = False
    """Whether the time was computed rather than read."""
    is_to_come: bool = False
    attempt: int | None = None
    """The number of the attempt, from 1; for `MORE`, the number of the last attempt."""


def timeline(listed: ListedJob, now: datetime) -> tuple[TimelineEntry, ...]:
    """Return the past of a job, and its future if it goes on failing, in order.

    The first `MOST_LISTED` of the attempts that are left are listed, and one entry stands for the rest. If
    the task has delays of its own, the times of attempts are wrong.
    """
    return (*_past(listed, now), *_future(listed, now))


def _past(listed: ListedJob, now: datetime) -> Iterator[TimelineEntry]:
    job = listed.job
    yield TimelineEntry(kind=TimelineKind.ADDED, text="added", at=job.created_at)
    if job.revision > 0:
        times = "once" if job.revision == 1 else f"{job.revision:,} times"
        yield TimelineEntry(kind=TimelineKind.REPLACED, text=f"added again under its key {times}")
    is_locked = listed.state is JobState.LOCKED
    used = job.attempts - is_locked
    if used > 0 or (job.last_error is not None and job.attempts >= 0):
        yield _tried(job, used, now)
    if is_locked:
        yield TimelineEntry(
            kind=TimelineKind.LOCKED,
            text=f"taken for attempt {job.attempts:,} by worker {job.locked_by or 'without a name'}",
            at=job.locked_at,
            attempt=job.attempts,
        )
    if listed.state is JobState.FAILED:
        text = f"no attempt is left: {job.attempts:,} of {job.max_attempts:,} are used"
        yield TimelineEntry(kind=TimelineKind.GAVE_UP, text=text)


def _tried(job: Job, used: int, now: datetime) -> TimelineEntry:
    count = f"{used} of {counted(job.max_attempts, 'attempt')} used"
    if job.last_error is None:
        text, at = f"{count}, no failure recorded", None
    elif job.last_error.startswith(_GIVEN_BACK):
        text, at = f"{count}, then given back by a worker that died or stopped", None
    else:
        text, at = f"{count}, failed last", _failed_at(job, used, now)
    return TimelineEntry(
        kind=TimelineKind.TRIED, text=text, at=at, is_about=at is not None, attempt=max(used, 0)
    )


def _failed_at(job: Job, used: int, now: datetime) -> datetime | None:
    """Return when a job failed last, computed from the time of its next attempt.

    None if that cannot be: it was rescheduled meanwhile, or its task has other delays.
    """
    if job.run_at in (FIRST, LAST):
        return None
    at = moved(job.run_at, -retry_delay(used))
    return at if job.created_at <= at <= now else None


def _future(listed: ListedJob, now: datetime) -> Iterator[TimelineEntry]:
    job = listed.job
    left = job.max_attempts - job.attempts
    if listed.state is JobState.FAILED:
        return
    begin = _next_at(listed, now)
    if begin == LAST and left > 0:
        yield _attempt(job.attempts + 1, LAST)
        return
    for number in range(job.attempts + 1, job.attempts + 1 + min(left, MOST_LISTED)):
        yield _attempt(number, _tried_at(job, begin, number))
    end = now if left <= 0 else _tried_at(job, begin, job.max_attempts)
    if left > MOST_LISTED:
        yield TimelineEntry(
            kind=TimelineKind.MORE,
            text=f"and {left - MOST_LISTED:,} more, the last of them",
            at=end,
            is_about=True,
            is_to_come=True,
            attempt=job.max_attempts,
        )
    yield TimelineEntry(
        kind=TimelineKind.GIVES_UP,
        text="gives up" if left > 0 else "gives up if this attempt fails",
        at=end if left > 0 else None,
        is_about=True,
        is_to_come=True,
    )


def _attempt(number: int, at: datetime) -> TimelineEntry:
    return TimelineEntry(
        kind=TimelineKind.ATTEMPT,
        text=f"attempt {number:,}",
        at=at,
        is_about=True,
        is_to_come=True,
        attempt=number,
    )


def _next_at(listed: ListedJob, now: datetime) -> datetime:
    """Return when a job is tried next; for one that runs, when it would be if it failed now."""
    if listed.state is JobState.LOCKED:
        return moved(now, retry_delay(listed.job.attempts))
    return max(now, listed.job.run_at)


def _tried_at(job: Job, begin: datetime, number: int) -> datetime:
    """Return when an attempt begins, if the next one begins at `begin` and each fails at once."""
    first = job.attempts + 1
    growing = sum(retry_delay(failed) for failed in range(max(first, 0), min(number, CONSTANT_FROM)))
    negative = max(0, min(number, 0) - first)
    constant = max(0, number - max(first, CONSTANT_FROM)) * retry_delay(CONSTANT_FROM)
    return moved(begin, negative * retry_delay(0) + growing + constant)
