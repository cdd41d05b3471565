"""What one sees when one looks at the queue, as values."""

from __future__ import annotations

import enum
from datetime import datetime

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import Job

_LARGEST_PAGE = 100_000


class JobState(enum.StrEnum):
    """What a job is waiting for, by the database's clock. Exactly one of these is true of a job."""

    READY = "ready"
    """For a slot; one in a named queue perhaps for those before it."""
    SCHEDULED = "scheduled"
    """For its time, which is yet to come."""
    LOCKED = "locked"
    """For nothing: a worker has it."""
    FAILED = "failed"
    """For somebody to decide: it has no attempt left."""


@attrs.frozen(kw_only=True)
class ListedJob:
    """A job together with what only the database knows of it."""

    job: Job
    state: JobState
    is_available: bool
    """Whether it is neither locked nor out of attempts."""
    task_id: int
    job_queue_id: int | None = None


def _not_negative(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 0:
        raise OptionInvalid(attribute.name, f"{value} is negative")


def _page(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value > _LARGEST_PAGE:
        raise OptionInvalid(
            attribute.name, f"{value} is over {_LARGEST_PAGE}: ask for one page after the other"
        )


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs to list, by id; None leaves out a condition. Raises `OptionInvalid`."""

    task_identifier: str | None = None
    queue_name: str | None = None
    state: JobState | None = None
    limit: int = attrs.field(default=50, validator=[_not_negative, _page])
    offset: int = attrs.field(default=0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class JobCounts:
    """How many jobs there are, in all and in each state."""

    total: int = 0
    ready: int = 0
    scheduled: int = 0
    locked: int = 0
    failed: int = 0


@attrs.frozen(kw_only=True)
class TaskStatus:
    """What the database knows of a task."""

    id: int
    identifier: str
    counts: JobCounts
    oldest_ready_at: datetime | None = None
    """Since when the job that has waited longest could have run."""


@attrs.frozen(kw_only=True)
class QueueStatus:
    """A named queue, whose jobs run one after the other."""

    id: int
    queue_name: str
    locked_at: datetime | None = None
    locked_by: str | None = None
    job_count: int = 0
    ready_count: int = 0


@attrs.frozen(kw_only=True)
class LockHolder:
    """Somebody in whose name jobs or queues are locked; a worker, dead or alive."""

    worker_id: str
    locked_jobs: int = 0
    locked_queues: int = 0
