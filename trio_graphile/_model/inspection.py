"""The queue as values: its jobs, tasks, named queues and locks."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import BIGINT, Job, flags_given, flags_valid
from trio_graphile._model.recovery import ActiveWorker
from trio_graphile._model.texts import check_text

_LIMITS = range(1, 100_001)


class JobState(enum.StrEnum):
    """The state of a job, by the clock of the database. Each job is in exactly one."""

    READY = "ready"
    """The job waits for a slot; in a named queue perhaps for the jobs before it."""
    SCHEDULED = "scheduled"
    """The job waits for its time, which is in the future."""
    LOCKED = "locked"
    """A worker has the job."""
    FAILED = "failed"
    """The job has no attempt left; somebody has to decide."""


@attrs.frozen(kw_only=True)
class ListedJob:
    """A job, and facts that only the database knows."""

    job: Job
    """The row. Its `task_identifier` is empty if another program deleted the task."""
    state: JobState
    is_available: bool
    """Whether the job is neither locked nor out of attempts."""
    task_id: int
    """The number of its task in the database."""
    job_queue_id: int | None = None
    """The number of its named queue, if it has one."""


def _text(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None:
        check_text(attribute.name, value)


def _state(value: JobState | str | None) -> JobState | None:
    try:
        return None if value is None else JobState(value)
    except ValueError:
        known = ", ".join(state.value for state in JobState)
        raise OptionInvalid("state", f"{value!r} is not one of {known}") from None


def _within(allowed: range, advice: str = "") -> Any:
    def check(_: object, attribute: attrs.Attribute[int], value: object) -> None:
        if type(value) is not int:
            raise OptionInvalid(attribute.name, f"a whole number is needed, not {value!r}")
        if value not in allowed:
            least, most = allowed.start, allowed.stop - 1
            raise OptionInvalid(attribute.name, f"{value} is not between {least} and {most}{advice}")

    return check


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs `Client.jobs` returns; None leaves out a condition. Raises `OptionInvalid`."""

    task_identifier: str | None = attrs.field(default=None, validator=_text)
    queue_name: str | None = attrs.field(default=None, validator=_text)
    state: JobState | None = attrs.field(default=None, converter=_state)
    key: str | None = attrs.field(default=None, validator=_text)
    """The key, which at most one job has."""
    flags: Sequence[str] | None = attrs.field(default=None, converter=flags_given, validator=flags_valid)
    """The flags of which a job must have all; it may have others."""
    locked_by: str | None = attrs.field(default=None, validator=_text)
    """The id of a worker that has the jobs locked."""
    after: int | None = attrs.field(default=None, validator=attrs.validators.optional(_within(BIGINT)))
    """Only jobs with a higher id than this."""
    limit: int = attrs.field(default=50, validator=_within(_LIMITS, ": ask for one page after the other"))
    """How many jobs a page has at most, up to 100,000."""
    offset: int = attrs.field(default=0, validator=_within(range(BIGINT.stop)))
    """How many jobs to skip. Jobs that come and go shift the pages; with `after` they do not."""


@attrs.frozen(kw_only=True)
class JobPage:
    """Some of the jobs that meet the conditions, by id."""

    jobs: tuple[ListedJob, ...] = ()
    next: JobFilter | None = None
    """The filter for the next page; None on the last page."""


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
    """Since when the job that has waited longest has been ready."""


@attrs.frozen(kw_only=True)
class QueueStatus:
    """A named queue, whose jobs run one after the other."""

    id: int
    queue_name: str
    locked_at: datetime | None = None
    locked_by: str | None = None
    """The worker that runs one of its jobs."""
    job_count: int = 0
    """How many jobs it has, in any state."""
    ready_count: int = 0
    """How many of them are ready; while the queue is locked, they wait."""


@attrs.frozen(kw_only=True)
class LockHolder:
    """A worker, dead or alive, that has jobs or queues locked."""

    worker_id: str
    locked_jobs: int = 0
    locked_queues: int = 0


@attrs.frozen(kw_only=True)
class WorkerStatus:
    """A worker that is registered, or that has jobs or queues locked."""

    worker_id: str
    locked_jobs: int = 0
    locked_queues: int = 0
    registration: ActiveWorker | None = None
    """Its last heartbeat and its metadata. None for a worker that only its locks show: workers of Node never
    register."""


def status_of_workers(
    registered: Iterable[ActiveWorker], holders: Iterable[LockHolder]
) -> list[WorkerStatus]:
    """Return each worker once: first the registered ones, then those that only their locks show."""
    by_id = {holder.worker_id: holder for holder in holders}
    known = [(by_id.pop(one.worker_id, LockHolder(worker_id=one.worker_id)), one) for one in registered]
    return [
        WorkerStatus(**attrs.asdict(holder), registration=registration)
        for holder, registration in [*known, *((holder, None) for holder in by_id.values())]
    ]
