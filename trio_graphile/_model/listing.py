"""Lists that take bounded time at any size of the table: the request, and one page of the answer."""

from __future__ import annotations

import enum
from datetime import datetime

import attrs

from trio_graphile._model.inspection import JobState, ListedJob


class JobOrder(enum.StrEnum):
    """The order of a list of jobs."""

    OLDEST = "oldest"
    """By id, the smallest first."""
    NEWEST = "newest"
    """By id, the largest first."""
    NEXT_RUN = "next-run"
    """By priority and time, as workers take them. The list has only jobs that are available."""
    LATEST_FAILURE = "latest-failure"
    """The latest failure first. The list has only jobs without attempts left."""


@attrs.frozen(kw_only=True)
class JobSearch:
    """The conditions of a search for jobs; an empty one is no condition."""

    states: tuple[JobState, ...] = ()
    """The job is in one of these states."""
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
    """The job has all of these flags."""
    text: str | None = None
    """The job has this text, in upper or lower case, in its id, task, queue, key, `locked_by`, error or
    payload."""
    until_id: int | None = None
    """Its id is at most this, so that jobs that are added later are left out."""
    order: JobOrder = JobOrder.OLDEST
    """The order. With `ids` or a `key`, next-run and latest-failure sort by id, but still show only their own
    jobs."""
    limit: int = 100
    """The size of a page, up to 1,000."""
    offset: int = 0
    """How many of the found jobs to skip, up to 10,000. If a page ends before it has found so many, its
    `next` knows how many are left to skip; another `offset` adds to that."""


@attrs.frozen(kw_only=True)
class FoundJob:
    """A job of a list. If its payload is too large to be sent along, `payload_json` of the job is `null`."""

    listed: ListedJob
    payload_size: int
    """The size of the payload as stored, which may be compressed, in bytes."""
    has_payload: bool = True
    """Whether the job has its payload."""
    has_whole_error: bool = True
    """Whether `last_error` is complete; of a large one only the beginning is here."""


@attrs.frozen(kw_only=True)
class FoundJobs:
    """One page of a list."""

    jobs: tuple[FoundJob, ...]
    next: str | None = None
    """A cursor for the next page; None at the end. A page without `jobs` has a next page, too, if the search
    has read so many rows that it goes on in another request."""
    previous: str | None = None
    """A cursor for the previous page, to be given like `next`; None on the first page. The previous page may
    be empty, since its jobs may be gone."""
    scanned: int = 0
    """How many rows the search has read, up to where `next` begins."""
    unsearched: int = 0
    """How many of these rows have payloads too large to be searched."""
    fell_back: bool = False
    """Whether the jobs are sorted by id instead of the order that was asked for: since ids or a key were
    given, since one of our indexes is missing, or since there are too many tasks or queues to merge."""


@attrs.frozen(kw_only=True)
class Count:
    """A number of rows, exact or estimated."""

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
    """Since when the job that has waited longest has been ready."""
    counted_at: datetime


@attrs.frozen(kw_only=True)
class FailureGroup:
    """Failed jobs of one task whose errors begin alike."""

    error: str
    """The first line of the error, in which each run of digits is a `#`."""
    task_identifier: str
    count: Count
    latest_at: datetime
    """About when the latest of them failed: this is computed from its next time and its attempts."""
    example_id: int


@attrs.frozen(kw_only=True)
class TaskSummary:
    """A task that the database knows. An estimated count is a lower bound."""

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
    """The identifier after which the next page begins; None at the end."""


@attrs.frozen(kw_only=True)
class QueueSummary:
    """A named queue. An estimated count is a lower bound."""

    id: int
    queue_name: str
    locked_at: datetime | None = None
    locked_by: str | None = None
    jobs: Count
    """How many of its jobs wait, now or for their time. Jobs that run or have failed do not count."""
    ready: Count
    """How many of these are due."""
    head_id: int | None = None
    """The due job that runs next, or the first job that will be due."""
    head_task_identifier: str | None = None
    waiting_since: datetime | None = None
    """Since when its head has been due; None if it is not due yet."""


@attrs.frozen(kw_only=True)
class FoundQueues:
    """One page of named queues, by name."""

    queues: tuple[QueueSummary, ...]
    next: str | None = None
    """The name after which the next page begins; None at the end. An empty page has a next one, too, if the
    search has read so many names that it goes on in another request."""
    scanned: int = 0
    """How many names the search has read."""
