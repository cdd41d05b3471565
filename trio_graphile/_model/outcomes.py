"""Outcomes: how runs of jobs can end. The set is closed; the worker records each outcome exactly once."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from trio_graphile._model.jobs import Job


@attrs.frozen
class Completed:
    """The handler returned. The row is deleted."""

    job: Job


@attrs.frozen
class Settled:
    """The handler completed the job itself, in a transaction of its own. Nothing is left to write."""

    job: Job


@attrs.frozen
class Failed:
    """The handler raised, or could not be called. The job is tried again, unless that would not help."""

    job: Job
    error: str
    """The text for `last_error`; never empty."""
    delay: float | None = attrs.field(default=None, kw_only=True)
    """Seconds until the next attempt; with None the database computes them from the number of attempts."""
    permanent: bool = attrs.field(default=False, kw_only=True)
    """Whether the job loses all attempts that are left."""
    payload_json: str | None = attrs.field(default=None, kw_only=True, repr=False)
    """The new payload of the job: the failed items of a batch, or a checkpoint."""


@attrs.frozen
class Returned:
    """The job did not run to its end, because of the worker. It goes back, and the attempt does not count."""

    job: Job
    payload_json: str | None = attrs.field(default=None, kw_only=True, repr=False)
    """The new payload of the job: a checkpoint."""


@attrs.frozen
class Snoozed:
    """The handler asked to run the job later. The attempt does not count."""

    job: Job
    delay: float = attrs.field(kw_only=True)
    """Seconds until the job runs again."""
    payload_json: str | None = attrs.field(default=None, kw_only=True, repr=False)
    """The new payload of the job: a checkpoint."""


@attrs.frozen
class Removed:
    """The job was replaced or removed through its key, and its handler interrupted. The row is deleted."""

    job: Job


@attrs.frozen
class Lost:
    """The job was no longer ours when its run ended. Nothing is left to write."""

    job: Job


Outcome: TypeAlias = Completed | Settled | Failed | Returned | Snoozed | Removed | Lost


@attrs.frozen(kw_only=True)
class AbandonedThread:
    """A thread that goes on with a job although its worker has ended: it did not check whether to stop."""

    job_id: int
    task_identifier: str
    thread: str
    """The name of the thread."""
    place: str
    """The place where it was when it was given up: file, line and function."""


class StopCause(enum.Enum):
    """Why a worker ended."""

    STOPPED = "stopped"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    """`run_once` found nothing more to do."""
    SUPERSEDED = "superseded"
    """Another program installed a revision of the schema that this version cannot work with."""


@attrs.frozen(kw_only=True)
class ShutdownReport:
    """The work of a worker between its start and its end."""

    worker_id: str
    cause: StopCause = StopCause.STOPPED
    completed: int = 0
    failed: int = 0
    """Runs that failed; the job waits for its next attempt, or has none left."""
    returned: int = 0
    """Jobs that were given back unfinished; these attempts do not count."""
    snoozed: int = 0
    """Runs whose handler asked to run the job later."""
    removed: int = 0
    """Runs that were interrupted because their job was replaced or removed through its key."""
    lost: int = 0
    """Runs whose outcome we could no longer record, since another worker had taken the lock."""
    abandoned: tuple[AbandonedThread, ...] = ()
    """Threads that still run. Their jobs were given back, and may run a second time meanwhile."""
    seconds: float = 0.0
    """Seconds from the stop, or the cancellation, to the end."""


def counts_of(report: ShutdownReport) -> dict[str, int]:
    """Return how many runs had which outcome, by the names of the fields."""
    return {name: value for name, value in attrs.asdict(report, recurse=False).items() if type(value) is int}
