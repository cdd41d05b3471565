"""The answers of the admin, as values: their fields are the keys of the API."""

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
    """The reason why a request was refused."""

    error: str


@attrs.frozen(kw_only=True)
class AuthAnswer:
    """How users authenticate."""

    mode: ModeName
    username: str | None
    header_name: str | None
    generated_secret: bool
    """Whether the secret was made up at the start."""


@attrs.frozen(kw_only=True)
class SessionAnswer:
    """The user, and their permissions."""

    schema: str
    read_only: bool
    csrf_header: str
    auth: AuthAnswer
    csrf_token: str | None
    """The value for that header; None if none is needed."""
    user: str
    may: list[str]
    """The allowed actions; empty for users who may only read."""


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
    """The names of the counts that are estimates."""
    head_id: int | None
    """The job that runs next."""
    head_task_identifier: str | None
    waiting_since: datetime | None


@attrs.frozen(kw_only=True)
class HolderAnswer:
    """A worker that has jobs or queues locked."""

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
    """The report of the worker, including its statistics."""
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
    """The names of the counts that are estimates."""
    counted_at: datetime
    oldest_ready_at: datetime | None
    queues_next: str | None
    """The `after` of the next page of `/api/queues`."""


@attrs.frozen(kw_only=True)
class ListedJobAnswer(ShownJob):
    """A job of a list. Its payload is null if it is too large for the list."""

    payload_size: int
    """The size as stored, in bytes."""
    has_whole_error: bool
    """Whether `last_error` is complete; of a large one only the beginning is here."""


@attrs.frozen(kw_only=True)
class JobsAnswer:
    """A page of jobs."""

    jobs: list[ListedJobAnswer]
    next: str | None
    """The `after` of the next page, even if no job was found yet; null at the end."""
    previous: str | None
    """The `after` of the previous page; null at the beginning."""
    scanned: int
    """How many rows were read."""
    unsearched: int
    """How many of them have payloads too large to be searched."""


@attrs.frozen(kw_only=True)
class JobAnswer(ListedJobAnswer):
    """A job, why it does not run, and what is still to come."""

    explanation: list[Reason]
    timeline: list[TimelineEntry]


@attrs.frozen(kw_only=True)
class UnchangedJob:
    """A job that was skipped."""

    id: int
    reason: str


@attrs.frozen(kw_only=True)
class AddedAnswer:
    """The added job."""

    message: str
    jobs: list[ShownChange]


@attrs.frozen(kw_only=True)
class ChangeAnswer:
    """The result of a change of jobs."""

    message: str
    jobs: list[ShownChange]
    unchanged: list[UnchangedJob]
    requested_ids: list[int]
    """Running jobs whose workers were asked to interrupt them."""
    next: str | None
    """The `after` of the same request for the next jobs; null if all that match were read."""


@attrs.frozen(kw_only=True)
class RemovedAnswer:
    """The result of removing the job under a key."""

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
    """The result of maintenance, or what it would do."""

    message: str
    deleted: list[DeletedAnswer] | None = None
    """The result of a cleanup."""
    worker_ids: list[str] | None = None
    """For a sweep the dead workers, for an unlock the workers whose locks were released."""
    recovered_jobs: int | None = None
    """For a sweep, how many jobs were given back."""
    revisions: list[int] | None = None
    """The result of a migration."""
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
    """Whether this program has the task; null if it was given no tasks."""


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
    """Workers, and the holders of locks."""

    workers: list[HolderAnswer]
    active_workers: list[ActiveWorkerAnswer]
    is_complete: bool
    """Whether all locked jobs were read; otherwise there may be more holders and locks."""


@attrs.frozen(kw_only=True)
class CrontabsAnswer:
    """The entries of crontabs that the database knows, or that the admin was given."""

    crontabs: list[RecurringStatus]


@attrs.frozen(kw_only=True)
class FindingsAnswer:
    """The findings of `doctor`."""

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
    """The history of the queue."""

    step: float
    """How many seconds one point stands for."""
    points: list[HistoryPoint]
    """The points, the oldest first; unknown values are null."""
    slowest: list[SlowTask]
    """The tasks whose runs took longest in the whole time, of workers that report it."""
