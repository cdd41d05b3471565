"""Events about a worker: its life, its claims, what it hears, and what it does for the fleet."""

from __future__ import annotations

from datetime import datetime

import attrs

from trio_graphile._cron.item import CronItem
from trio_graphile._model.jobs import Job
from trio_graphile._model.local_queue import Mode
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile.hooks._event import Event

# --- its life -----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class WorkerStarting(Event):
    """A run begins: nothing was asked of the database yet. Comes once for each `run` and `run_once`."""

    schema: str
    """The schema of the queue."""
    concurrency: int
    """How many slots it has."""
    tasks: tuple[str, ...]
    """The identifiers of its tasks."""


@attrs.frozen(kw_only=True)
class WorkerStarted(Event):
    """The worker is registered, and takes jobs. Comes once for each `run` and `run_once` that gets so far."""


@attrs.frozen(kw_only=True)
class ShutdownStarted(Event):
    """The worker begins to end: it takes no more jobs. Does not come if its nursery is cancelled."""

    cause: StopCause
    running: tuple[Job, ...]
    """What runs at this moment."""
    grace_period: float
    """How long that may go on, in seconds."""


@attrs.frozen(kw_only=True)
class GracePeriodOver(Event):
    """Handlers have not ended in time, and were interrupted."""

    running: tuple[Job, ...]
    """Their jobs."""


@attrs.frozen(kw_only=True)
class ShutdownForced(Event):
    """`Worker.cancel` was called: handlers are interrupted at once."""

    running: tuple[Job, ...]
    """Their jobs."""


@attrs.frozen(kw_only=True)
class WorkerEnded(Event):
    """The run is over. The last event of a worker; comes however it ended, unless it was killed."""

    cause: StopCause | None
    """Why it ended; None if it did not get to the end on its own terms: then `error` says more."""
    report: ShutdownReport | None
    """What it did, if it ended in good order."""
    error: str | None = None
    """What it raised, as text; None if it raised nothing, or was cancelled from outside."""


@attrs.frozen(kw_only=True)
class LeaseExpiring(Event):
    """The lease could not be renewed for too long: all handlers are interrupted, nothing is taken."""


@attrs.frozen(kw_only=True)
class LeaseRestored(Event):
    """The lease holds again: the worker goes on."""


# --- its claims ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class JobsClaimed(Event):
    """A claim has come back."""

    count: int
    """How many jobs it brought; 0 if there were none to be had."""
    limit: int
    """How many it asked for."""
    duration: float
    """How long it took, in seconds."""


@attrs.frozen(kw_only=True)
class ClaimFailed(Event):
    """A claim has failed for a reason that passes; it is repeated."""

    error: str
    retry_in: float
    """After how many seconds."""


@attrs.frozen(kw_only=True)
class JobsReturned(Event):
    """Jobs that no slot took were given back, and others can claim them."""

    count: int


@attrs.frozen(kw_only=True)
class LocalQueueModeChanged(Event):
    """The local queue is about something else now. The first one starts with `Mode.STARTING`."""

    old: Mode
    new: Mode


@attrs.frozen(kw_only=True)
class RefetchDelayStarted(Event):
    """A claim brought few jobs: the next one waits."""

    duration: float
    """For how many seconds."""
    threshold: int
    """Up to how many jobs are few."""
    abort_threshold: float
    """How many announced jobs end the wait early; infinity if none do."""


@attrs.frozen(kw_only=True)
class RefetchDelayAborted(Event):
    """So many jobs were announced that the wait is over early."""

    count: int
    abort_threshold: float
    """How many were enough."""


@attrs.frozen(kw_only=True)
class RefetchDelayExpired(Event):
    """The wait is over, and the next claim is made."""


# --- what it hears ------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ListenConnecting(Event):
    """The session that hears of new jobs is about to be opened."""

    attempt: int
    """Which try this is since it was lost: 1 at the first."""


@attrs.frozen(kw_only=True)
class ListenRestored(Event):
    """The worker hears of new jobs, for the first time or again."""


@attrs.frozen(kw_only=True)
class ListenLost(Event):
    """The worker does not hear of new jobs: it polls."""

    error: str
    retry_in: float
    """After how many seconds the session is opened again."""


# --- what it does for the fleet -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class WorkersRecovered(Event):
    """The jobs of dead workers were given back. Comes only if there were dead workers."""

    dead_worker_ids: tuple[str, ...]
    jobs: int
    """How many jobs were given back."""


@attrs.frozen(kw_only=True)
class LocksReset(Event):
    """The worker has looked for locks that are older than four hours, and has released what it found."""

    jobs: int
    queues: int


@attrs.frozen(kw_only=True)
class MaintenanceFailed(Event):
    """Looking for dead workers or for old locks has failed; it is done again at its next time."""

    what: str
    error: str


@attrs.frozen(kw_only=True)
class CronStarted(Event):
    """The entries of the crontab are known in the database, and their times are watched."""

    entries: tuple[str, ...]
    """Their identifiers."""
    at: datetime
    """Up to when nothing is left to be added, but for what is to be backfilled."""


@attrs.frozen(kw_only=True)
class CronTicked(Event):
    """A time has come at which entries are due. Minutes at which none is due pass without an event."""

    at: datetime
    """That time."""
    entries: tuple[CronItem, ...]
    """What is due, in the order of the crontab."""
    backfilled: bool
    """Whether the time was missed, and is made up for."""


@attrs.frozen(kw_only=True)
class CronOverdue(Event):
    """A time of the crontab was noticed late: the machine slept, or its clock was set."""

    late: float
    """By how many seconds."""


@attrs.frozen(kw_only=True)
class CronJobScheduled(Event):
    """A recurring job was added, by this worker: of a fleet one alone tells of it."""

    entry: CronItem
    at: datetime
    """The time that it was added for."""
    job_id: int
    backfilled: bool
    """Whether the time was missed, and is made up for."""


@attrs.frozen(kw_only=True)
class CronFailed(Event):
    """Recurring jobs could not be added; it is tried again."""

    error: str
    retry_in: float
    """After how many seconds."""


CLAIM_EVENTS: tuple[type[Event], ...] = (
    ClaimFailed,
    JobsClaimed,
    LocalQueueModeChanged,
    RefetchDelayAborted,
    RefetchDelayExpired,
    RefetchDelayStarted,
)
"""What a local queue tells of."""
