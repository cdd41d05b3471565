"""What the admin answers, as values: their fields are the keys of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs

from trio_graphile._cron.recurring import RecurringStatus
from trio_graphile._model.diagnosis import Finding
from trio_graphile._model.explanation import Reason
from trio_graphile._model.job_json import ShownChange, ShownJob
from trio_graphile._model.samples import HistoryPoint, SlowTask
from trio_graphile._model.timeline import TimelineEntry

CountName: TypeAlias = Literal["total", "ready", "scheduled", "locked", "failed"]
ModeName: TypeAlias = Literal["Basic", "Bearer", "Header", "None", "Authorize"]
QueueCount: TypeAlias = Literal["job_count", "ready_count"]


@attrs.frozen(kw_only=True)
class Problem:
    """Why a request was not served."""

    error: str


@attrs.frozen(kw_only=True)
class AuthAnswer:
    """How one shows who one is."""

    mode: ModeName
    username: str | None
    header_name: str | None
    generated_secret: bool
    """Whether the secret was made up at the start."""


@attrs.frozen(kw_only=True)
class SessionAnswer:
    """Who asks, and what they may do."""

    schema: str
    read_only: bool
    csrf_header: str
    auth: AuthAnswer
    csrf_token: str | None
    """What that header has to say; None where none is needed."""
    user: str
    may: list[str]
    """The actions that are allowed; empty for those who only read."""


@attrs.frozen(kw_only=True)
class StatsAnswer:
    """How many jobs there are, in all and in each state."""

    total: int
    ready: int
    scheduled: int
    locked: int
    failed: int


@attrs.frozen(kw_only=True)
class QueueAnswer:
    """A named queue."""

    id: int
    queue_name: str
    locked_at: datetime | None
    locked_by: str | None
    job_count: int
    ready_count: int
    estimated: list[QueueCount]
    """Which of the counts are not exact."""
    head_id: int | None
    """The job that runs next."""
    head_task_identifier: str | None
    waiting_since: datetime | None


@attrs.frozen(kw_only=True)
class HolderAnswer:
    """Somebody in whose name jobs or queues are locked."""

    worker_id: str
    locked_jobs: int
    locked_queues: int


@attrs.frozen(kw_only=True)
class ActiveWorkerAnswer:
    """A worker that is registered."""

    worker_id: str
    last_heartbeat_at: datetime
    started_at: datetime
    metadata: Any
    """What it says of itself, its statistics among it."""
    is_stale: bool


@attrs.frozen(kw_only=True)
class OverviewAnswer:
    """The queue at a glance."""

    stats: StatsAnswer
    queues: list[QueueAnswer]
    """The first 200, by name."""
    workers: list[HolderAnswer]
    active_workers: list[ActiveWorkerAnswer]
    estimated: list[CountName]
    """Which of the counts are not exact."""
    counted_at: datetime
    oldest_ready_at: datetime | None
    queues_next: str | None
    """What `after` of `/api/queues` goes on with."""


@attrs.frozen(kw_only=True)
class ListedJobAnswer(ShownJob):
    """A job of a list. Its payload is null where it is too large to be shown there."""

    payload_size: int
    """In bytes, as stored."""
    has_whole_error: bool
    """Whether all of `last_error` is here: of a large one it is the beginning."""


@attrs.frozen(kw_only=True)
class JobsAnswer:
    """A page of jobs."""

    jobs: list[ListedJobAnswer]
    next: str | None
    """What `after` goes on with, even where no job was found yet; null at the end."""
    previous: str | None
    """What `after` goes back with; null at the beginning."""
    scanned: int
    """How many rows were looked at."""
    unsearched: int
    """How many of them have payloads too large to be searched."""


@attrs.frozen(kw_only=True)
class JobAnswer(ListedJobAnswer):
    """A job, why it does not run, and what is still to come."""

    explanation: list[Reason]
    timeline: list[TimelineEntry]


@attrs.frozen(kw_only=True)
class UnchangedJob:
    """A job that was left alone."""

    id: int
    reason: str


@attrs.frozen(kw_only=True)
class AddedAnswer:
    """What was added."""

    message: str
    jobs: list[ShownChange]


@attrs.frozen(kw_only=True)
class ChangeAnswer:
    """What became of jobs."""

    message: str
    jobs: list[ShownChange]
    unchanged: list[UnchangedJob]
    requested_ids: list[int]
    """Running jobs whose workers were asked to interrupt them."""
    next: str | None
    """What `after` of the same request goes on with; null if all that match were looked at."""


@attrs.frozen(kw_only=True)
class RemovedAnswer:
    """What stood under the key."""

    message: str
    removed: Literal["nothing", "job", "key"]
    """`key`: the job runs, lost its key, and is not tried again."""
    job: ShownChange | None


@attrs.frozen(kw_only=True)
class DeletedAnswer:
    """How many rows were deleted, of one kind."""

    task: str
    count: int


@attrs.frozen(kw_only=True)
class MaintenanceAnswer:
    """What was done, or would be."""

    message: str
    deleted: list[DeletedAnswer] | None = None
    """Of a cleanup."""
    worker_ids: list[str] | None = None
    """Of a sweep: which workers are gone; of an unlock: whose locks were taken."""
    recovered_jobs: int | None = None
    """Of a sweep: how many jobs were given back."""
    revisions: list[int] | None = None
    """Of a migration."""
    migrations: list[str] | None = None


@attrs.frozen(kw_only=True)
class TaskAnswer:
    """A task that the database knows."""

    id: int
    task_identifier: str
    ready: int
    scheduled: int
    failed: int
    estimated: list[Literal["ready", "scheduled", "failed"]]
    oldest_ready_at: datetime | None
    workers: int
    """How many live workers have it."""
    is_known_here: bool | None
    """Whether this program has it; null where it was given no tasks."""


@attrs.frozen(kw_only=True)
class TasksAnswer:
    """A page of tasks, by identifier."""

    tasks: list[TaskAnswer]
    next: str | None


@attrs.frozen(kw_only=True)
class QueuesAnswer:
    """A page of named queues, by name."""

    queues: list[QueueAnswer]
    next: str | None


@attrs.frozen(kw_only=True)
class WorkersAnswer:
    """Who works, and who has something locked."""

    workers: list[HolderAnswer]
    active_workers: list[ActiveWorkerAnswer]
    is_complete: bool
    """Whether all jobs were looked at that may be locked; else there may be other holders, and more locks."""


@attrs.frozen(kw_only=True)
class CrontabsAnswer:
    """The entries of crontabs that the database knows, or that the admin was given."""

    crontabs: list[RecurringStatus]


@attrs.frozen(kw_only=True)
class FindingsAnswer:
    """What `doctor` says."""

    findings: list[Finding]


@attrs.frozen(kw_only=True)
class FailureAnswer:
    """Failed jobs whose errors begin alike."""

    error: str
    task_identifier: str
    count: int
    is_estimate: bool
    latest_at: datetime
    example_id: int


@attrs.frozen(kw_only=True)
class FailuresAnswer:
    """Failures by error, the most frequent first."""

    groups: list[FailureAnswer]


@attrs.frozen(kw_only=True)
class HistoryAnswer:
    """What the queue was like."""

    step: float
    """How many seconds a point stands for."""
    points: list[HistoryPoint]
    """The oldest first; what is not known is null."""
    slowest: list[SlowTask]
    """The tasks whose runs took longest in all this time, of workers that tell."""
