"""Lists that end in time at any size of the table: what is asked for, and one page of the answer."""

from __future__ import annotations

import enum
from datetime import datetime

import attrs

from trio_graphile._model.inspection import JobState, ListedJob


class JobOrder(enum.StrEnum):
    """In which order jobs are listed."""

    OLDEST = "oldest"
    """By id, the smallest first."""
    NEWEST = "newest"
    """By id, the largest first."""
    NEXT_RUN = "next-run"
    """By priority and time, as workers take them. Shows jobs that are available alone."""
    LATEST_FAILURE = "latest-failure"
    """That which failed last first. Shows jobs that have no attempt left alone."""


@attrs.frozen(kw_only=True)
class JobSearch:
    """Which jobs are looked for; what is left empty is no condition."""

    states: tuple[JobState, ...] = ()
    """A job is in one of these."""
    identifiers: tuple[str, ...] = ()
    """Its task is one of these."""
    queues: tuple[str, ...] = ()
    """Its named queue is one of these."""
    ids: tuple[int, ...] = ()
    key: str | None = None
    locked_by: str | None = None
    error: str | None = None
    """The beginning of `last_error`'s group: see `_model.failure_groups`."""
    flags: tuple[str, ...] = ()
    """It has all of these."""
    text: str | None = None
    """It stands, in whatever case, in its id, task, queue, key, `locked_by`, error or payload, literally."""
    until_id: int | None = None
    """Its id is not above this one: what is added later is left out."""
    order: JobOrder = JobOrder.OLDEST
    """With `ids` or a `key`, next-run and latest-failure are as oldest, but show the same jobs as ever."""
    limit: int = 100
    """Up to 1,000."""
    offset: int = 0
    """How many of those that are found are left out first, up to 10,000. A page that ends before so many were
    found has a `next` that knows what is left of it: `offset` comes on top of that."""


@attrs.frozen(kw_only=True)
class FoundJob:
    """A job of a list. Its payload may be left out for its size: then `payload_json` of the job is `null`."""

    listed: ListedJob
    payload_size: int
    """How many bytes the payload takes as stored, compressed perhaps."""
    has_payload: bool = True
    """Whether the payload is here."""
    has_whole_error: bool = True
    """Whether all of `last_error` is here: of a large one it is the beginning."""


@attrs.frozen(kw_only=True)
class FoundJobs:
    """One page of a list."""

    jobs: tuple[FoundJob, ...]
    next: str | None = None
    """Where the page that follows begins; None at the end. A page without `jobs` has one after it, too, if so
    many rows were looked at that the search goes on in another request."""
    previous: str | None = None
    """Where the page before this one is, to be given as `next` is; None if this is the first. That page may
    be empty, too: what was there may be gone."""
    scanned: int = 0
    """How many rows were looked at, up to where `next` begins."""
    unsearched: int = 0
    """How many of them have payloads too large to be searched."""
    fell_back: bool = False
    """Whether the jobs come by id instead of in the order that was asked for: since ids or a key were given,
    an index of ours is missing, or there are too many tasks or queues to merge."""


@attrs.frozen(kw_only=True)
class Count:
    """How many there are: exactly, or about."""

    value: int
    is_estimate: bool = False


@attrs.frozen(kw_only=True)
class StateCounts:
    """How many jobs are in each state."""

    total: Count
    ready: Count
    scheduled: Count
    locked: Count
    failed: Count
    oldest_ready_at: datetime | None = None
    """Since when the job that waits longest could have run."""
    counted_at: datetime


@attrs.frozen(kw_only=True)
class FailureGroup:
    """Failed jobs of one task whose errors begin alike."""

    error: str
    """The first line of the error, each run of digits folded into a `#`."""
    task_identifier: str
    count: Count
    latest_at: datetime
    """About when the latest of them failed: it is computed from its next time and its attempts."""
    example_id: int


@attrs.frozen(kw_only=True)
class TaskSummary:
    """A task that the database knows. An estimate here is what was counted: there are at least so many."""

    id: int
    identifier: str
    ready: Count
    scheduled: Count
    failed: Count
    oldest_ready_at: datetime | None = None


@attrs.frozen(kw_only=True)
class FoundTasks:
    """One page of tasks, by identifier."""

    tasks: tuple[TaskSummary, ...]
    next: str | None = None
    """The identifier after which the page that follows begins; None at the end."""


@attrs.frozen(kw_only=True)
class QueueSummary:
    """A named queue. An estimate here is what was counted: there are at least so many."""

    id: int
    queue_name: str
    locked_at: datetime | None = None
    locked_by: str | None = None
    jobs: Count
    """How many of its jobs wait, be it for their time. Those that run or have failed are not among them."""
    ready: Count
    """How many of these are due."""
    head_id: int | None = None
    """The job that runs next of those that are due, or the first that will be."""
    head_task_identifier: str | None = None
    waiting_since: datetime | None = None
    """Since when its head could have run; None if that is not due."""


@attrs.frozen(kw_only=True)
class FoundQueues:
    """One page of named queues, by name."""

    queues: tuple[QueueSummary, ...]
    next: str | None = None
    """The name after which the page that follows begins; None at the end. It may follow although `queues` is
    empty: then so many names were looked at that the search goes on in another request."""
    scanned: int = 0
    """How many names were looked at."""
