"""Outcomes: what a run of a job came to. A closed set; the worker records each exactly once."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from trio_graphile._model.jobs import Job


@attrs.frozen
class Completed:
    """The handler returned; the row is deleted."""

    job: Job


@attrs.frozen
class Settled:
    """The handler completed the job itself, in a transaction of its own: there is nothing left to write."""

    job: Job


@attrs.frozen
class Failed:
    """The handler raised, or could not be called; the job is tried again, unless that is of no use."""

    job: Job
    error: str
    """What stands in `last_error`; never empty."""
    delay: float | None = attrs.field(default=None, kw_only=True)
    """Seconds until the next attempt; None leaves them to the database, which counts the attempts."""
    permanent: bool = attrs.field(default=False, kw_only=True)
    """Whether all attempts that are left are taken away."""
    payload_json: str | None = attrs.field(default=None, kw_only=True, repr=False)
    """What the payload is replaced by: the failed items of a batch, or a checkpoint."""


@attrs.frozen
class Returned:
    """The job did not run to its end, for a reason of ours: it goes back, its attempt with it."""

    job: Job
    payload_json: str | None = attrs.field(default=None, kw_only=True, repr=False)
    """What the payload is replaced by: a checkpoint."""


@attrs.frozen
class Snoozed:
    """The handler wants the job to run later; its attempt is given back."""

    job: Job
    delay: float = attrs.field(kw_only=True)
    """Seconds until then."""
    payload_json: str | None = attrs.field(default=None, kw_only=True, repr=False)
    """As that of `Returned`."""


@attrs.frozen
class Removed:
    """The job was replaced or removed through its key and its handler interrupted; the row is deleted."""

    job: Job


@attrs.frozen
class Lost:
    """The job was not ours any more when its run ended: there is nothing left to write."""

    job: Job


Outcome: TypeAlias = Completed | Settled | Failed | Returned | Snoozed | Removed | Lost


@attrs.frozen(kw_only=True)
class AbandonedThread:
    """A thread that goes on with a job although its worker has ended: it did not ask whether to stop."""

    job_id: int
    task_identifier: str
    thread: str
    """Its name."""
    place: str
    """Where it was when it was given up: file, line and function."""


class StopCause(enum.Enum):
    """Why a worker ended."""

    STOPPED = "stopped"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    """`run_once` found nothing more to do."""
    SUPERSEDED = "superseded"
    """Somebody installed a revision of the schema that this version cannot work with."""


@attrs.frozen(kw_only=True)
class ShutdownReport:
    """What a worker did between its start and its end."""

    worker_id: str
    cause: StopCause = StopCause.STOPPED
    completed: int = 0
    failed: int = 0
    """Runs that failed; the job waits for its next attempt, or has none left."""
    returned: int = 0
    """Jobs given back unfinished, with their attempt."""
    snoozed: int = 0
    """Runs whose handler wanted the job to run later."""
    removed: int = 0
    """Runs interrupted because their job was replaced or removed through its key."""
    lost: int = 0
    """Runs whose outcome was not ours to record any more: the lock had been taken from us."""
    abandoned: tuple[AbandonedThread, ...] = ()
    """Threads that still run; their jobs were given back and may run a second time meanwhile."""
    seconds: float = 0.0
    """From the stop, or the cancellation, to the end."""
