"""Requests to the admin as values: their fields are the names in queries and bodies."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import attrs

from trio_graphile._model.failure_groups import error_group
from trio_graphile._model.inspection import JobState
from trio_graphile._model.jobs import BIGINT, MAX_KEY_LENGTH, MAX_NAME_LENGTH, SMALLINT
from trio_graphile._model.listing import JobOrder, JobSearch
from trio_graphile._model.samples import Span
from trio_graphile.admin._operations.limits import Between, Items, Length, NotBlank, Rule

MOST_JOBS = 1000
"""How many jobs one call changes at most."""
_MAX_TEXT_LENGTH = 1000  # characters

JobId: TypeAlias = Annotated[int, Between(1, BIGINT.stop - 1)]
Name: TypeAlias = Annotated[str, Length(0, MAX_NAME_LENGTH)]
Key: TypeAlias = Annotated[str, Length(0, MAX_KEY_LENGTH)]
Text: TypeAlias = Annotated[str, Length(0, _MAX_TEXT_LENGTH)]
Cursor: TypeAlias = Annotated[str, Length(0, 2000)]
WorkerId: TypeAlias = Annotated[str, Length(1, _MAX_TEXT_LENGTH)]
Names: TypeAlias = Annotated[list[Name], Items(100)]
Attempts: TypeAlias = Annotated[int, Between(1, SMALLINT.stop - 1)]
Priority: TypeAlias = Annotated[int, Between(SMALLINT.start, SMALLINT.stop - 1)]
PageSize: TypeAlias = Annotated[int, Between(1, 500)]
StateName: TypeAlias = Literal["all", "ready", "scheduled", "locked", "failed"]


@attrs.frozen(kw_only=True)
class Conditions:
    """The conditions for jobs; a missing or empty one is no condition."""

    state: Annotated[list[StateName], Items(5)] = attrs.field(factory=list)
    identifier: Names = attrs.field(factory=list)
    queue: Names = attrs.field(factory=list)
    flag: Names = attrs.field(factory=list)
    """The job has all of these flags."""
    key: Key | None = None
    locked_by: Text | None = None
    error: Text | None = None
    """Its error is in the same group as this one: the first lines are equal except for digits."""
    search: Text | None = None
    """The job has this text, in upper or lower case, in its id, task, queue, key, `locked_by`, error or
    payload."""
    until_id: JobId | None = None
    """Its id is at most this."""

    def as_search(self, **rest: Any) -> JobSearch:
        """Return the search."""
        return JobSearch(
            states=() if "all" in self.state else tuple(dict.fromkeys(map(JobState, self.state))),
            identifiers=_filled(self.identifier),
            queues=_filled(self.queue),
            flags=_filled(self.flag),
            key=self.key or None,
            locked_by=self.locked_by or None,
            error=error_group(self.error) if self.error else None,
            text=(self.search or "").strip() or None,
            until_id=self.until_id,
            **rest,
        )


def _filled(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


@attrs.frozen(kw_only=True)
class JobsRequest(Conditions):
    """A page of jobs."""

    order: JobOrder = JobOrder.OLDEST
    after: Cursor | None = None
    """The `next` of the previous page."""
    limit: PageSize = 100
    offset: Annotated[int, Between(0, 10_000)] = 0
    """How many jobs to skip; for more, use `after`."""


@attrs.frozen(kw_only=True)
class ExportRequest(Conditions):
    """All jobs that match, as a file."""

    order: JobOrder = JobOrder.OLDEST
    format: Literal["csv", "json"] = "json"
    after: Cursor | None = None


@attrs.frozen(kw_only=True)
class PageRequest:
    """A page of a list by name."""

    after: Text | None = None
    """What `next` of the page before said."""
    limit: PageSize = 100


@attrs.frozen(kw_only=True)
class SearchRequest(PageRequest):
    """A request for a page of names that contain a text."""

    search: Name | None = None


@attrs.frozen(kw_only=True)
class FailuresRequest:
    """A request for groups of failures."""

    identifier: Names = attrs.field(factory=list)
    limit: PageSize = 100


@attrs.frozen(kw_only=True)
class HistoryRequest:
    """A request for the history of the queue."""

    span: Span = Span.HOUR


@attrs.frozen(kw_only=True)
class AddRequest:
    """A job to add."""

    identifier: Annotated[str, Length(1, MAX_NAME_LENGTH)]
    payload: Any = None
    """The payload; null or none stands for `{}`."""
    queue: Name | None = None
    run_at: datetime | None = None
    max_attempts: Attempts | None = None
    key: Annotated[str, Length(1, MAX_KEY_LENGTH)] | None = None
    job_key_mode: Literal["replace", "preserve-run-at", "unsafe-dedupe"] | None = None
    priority: Priority | None = None
    flags: Names = attrs.field(factory=list)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            when="job_key_mode",
            needed=("key",),
            text="job_key_mode says what is done to the job under a key: give key, too",
        ),
    )


@attrs.frozen(kw_only=True)
class ActionFilter(Conditions):
    """The jobs to change, among those that existed when the user looked."""

    until_id: JobId
    """The highest id: jobs that are added later are skipped."""


JobVerb: TypeAlias = Literal["complete", "fail", "run-now", "reschedule", "cancel"]


@attrs.frozen(kw_only=True)
class ActionRequest:
    """A change of jobs: of those with these ids, or of all that match."""

    action: JobVerb
    ids: Annotated[list[JobId], Items(MOST_JOBS)] = attrs.field(factory=list)
    filter: ActionFilter | None = None
    after: Cursor | None = None
    """With a filter: the `next` of the previous call."""
    limit: Annotated[int, Between(1, MOST_JOBS)] = MOST_JOBS
    """With a filter: how many jobs at most."""
    reason: Annotated[str, Length(0, 10_000)] | None = None
    """For `fail` and `cancel`: the error to record."""
    outcome: Literal["fail", "return"] = "fail"
    """For `cancel`: whether an interrupted job fails, or goes back to the queue."""
    run_at: datetime | None = None
    priority: Priority | None = None
    attempts: Annotated[int, Between(0, SMALLINT.stop - 1)] | None = None
    max_attempts: Attempts | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(needed=("ids", "filter"), text="no jobs: give ids or a filter"),
        Rule(when="filter", forbidden=("ids",), text="ids and filter exclude each other"),
        Rule(when="after", needed=("filter",), text="after goes on with a filter: give that, too"),
        Rule(
            when="action",
            values=("reschedule",),
            needed=("run_at", "priority", "attempts", "max_attempts"),
            text="nothing to change: give at least one of run_at, priority, attempts, max_attempts",
        ),
    )


@attrs.frozen(kw_only=True)
class RemoveRequest:
    """A request to remove the job under a key."""

    key: Annotated[str, Length(1, MAX_KEY_LENGTH), NotBlank()]


CleanupName: TypeAlias = Literal[
    "delete-permanently-failed-jobs",
    "gc-task-identifiers",
    "gc-job-queues",
    "delete_permanently_failed_jobs",
    "gc_task_identifiers",
    "gc_job_queues",
    "DeletePermanentlyFailedJobs",
    "GcTaskIdentifiers",
    "GcJobQueues",
]
"""The names of actions, as commands, the client, and scripts for Graphile Worker RS spell them."""


@attrs.frozen(kw_only=True)
class MaintenanceRequest:
    """A request for maintenance of the schema or of workers."""

    action: Literal["migrate", "cleanup", "force-unlock", "sweep-stale-workers"]
    cleanup_tasks: Annotated[list[CleanupName], Items(20)] = attrs.field(factory=list)
    keep_tasks: Names = attrs.field(factory=list)
    """Tasks that a cleanup keeps although they have no job."""
    worker_ids: Annotated[list[Annotated[str, Length(1, _MAX_TEXT_LENGTH)]], Items(1000)] = attrs.field(
        factory=list
    )
    """The workers to unlock."""
    dry_run: bool = False
    """For `migrate` and `sweep-stale-workers`: only say what would be done."""
    sweep_threshold_secs: Annotated[float, Between(1, 14_400)] | None = None
    recovery_delay_secs: Annotated[float, Between(0, 21_600)] | None = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            when="action",
            values=("cleanup",),
            needed=("cleanup_tasks",),
            text="nothing to clean up: name cleanup_tasks, of delete-permanently-failed-jobs, "
            "gc-task-identifiers, gc-job-queues",
        ),
        Rule(
            when="action",
            values=("force-unlock",),
            needed=("worker_ids",),
            text="no worker to unlock: name worker_ids",
        ),
        Rule(
            when="action",
            values=("cleanup", "force-unlock"),
            forbidden=("dry_run",),
            text="there is no dry run of this action",
        ),
    )
