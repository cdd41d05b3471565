"""Events about a worker: its life, its claims, its notifications, and its work for the fleet."""

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
    """A worker starts, before its first statement. Emitted once for each `run` and `run_once`."""

    schema: str
    """The database schema of the queue."""
    concurrency: int
    """The number of its slots."""
    tasks: tuple[str, ...]
    """The identifiers of its tasks."""


@attrs.frozen(kw_only=True)
class WorkerStarted(Event):
    """The worker is registered, and claims jobs. Emitted at most once for each `run` and `run_once`."""


@attrs.frozen(kw_only=True)
class ShutdownStarted(Event):
    """The worker begins to end: it takes no more jobs. Not emitted if the scope around it is cancelled."""

    cause: StopCause
    running: tuple[Job, ...]
    """The jobs that run at this moment."""
    grace_period: float
    """How long their handlers may go on, in seconds."""


@attrs.frozen(kw_only=True)
class GracePeriodOver(Event):
    """Handlers have not ended within the grace period, and were interrupted."""

    running: tuple[Job, ...]
    """The jobs of these handlers."""


@attrs.frozen(kw_only=True)
class ShutdownForced(Event):
    """`Worker.cancel` was called: handlers are interrupted at once."""

    running: tuple[Job, ...]
    """The jobs of these handlers."""


@attrs.frozen(kw_only=True)
class WorkerEnded(Event):
    """The run is over: the last event of a worker, emitted however it ended, unless it was killed."""

    cause: StopCause | None
    """Why it ended; None if it failed, for the reason in `error`."""
    report: ShutdownReport | None
    """What became of its jobs; None if it failed, or if the scope around it was cancelled."""
    error: str | None = None
    """The exception that it raised, as text; None if it did not fail."""


@attrs.frozen(kw_only=True)
class LeaseExpiring(Event):
    """The lease is about to expire unrenewed: all handlers are interrupted, and nothing is claimed."""


@attrs.frozen(kw_only=True)
class LeaseRestored(Event):
    """The lease holds again: the worker claims jobs."""


# --- its claims ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class JobsClaimed(Event):
    """A claim has succeeded."""

    count: int
    """The number of claimed jobs; 0 if none was ready for this worker."""
    limit: int
    """The number of jobs that it asked for."""
    duration: float
    """How long it took, in seconds."""


@attrs.frozen(kw_only=True)
class ClaimFailed(Event):
    """A claim has failed for a transient reason, and will be repeated."""

    error: str
    retry_in: float
    """The seconds until it is repeated."""


@attrs.frozen(kw_only=True)
class JobsReturned(Event):
    """Claimed jobs that no slot had taken were given back, so that others can claim them."""

    count: int


@attrs.frozen(kw_only=True)
class LocalQueueModeChanged(Event):
    """The local queue has changed its mode. The first change is from `Mode.STARTING`."""

    old: Mode
    new: Mode


@attrs.frozen(kw_only=True)
class RefetchDelayStarted(Event):
    """A claim brought so few jobs that the next one waits."""

    duration: float
    """How long it waits, in seconds."""
    threshold: int
    """The greatest number of jobs after which the next claim waits."""
    abort_threshold: float
    """The number of announced jobs that ends the wait early; infinity if no number does."""


@attrs.frozen(kw_only=True)
class RefetchDelayAborted(Event):
    """So many jobs were announced that the refetch delay ends early."""

    count: int
    """The number of announced jobs."""
    abort_threshold: float
    """The number that was enough."""


@attrs.frozen(kw_only=True)
class RefetchDelayExpired(Event):
    """The refetch delay is over, and the next claim is made."""


# --- its notifications ------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ListenConnecting(Event):
    """The worker is about to open the session that listens for new jobs."""

    attempt: int
    """The number of this try: 1 is the first since the session was lost, or since the start."""


@attrs.frozen(kw_only=True)
class ListenRestored(Event):
    """The worker listens for new jobs, for the first time or again."""


@attrs.frozen(kw_only=True)
class ListenLost(Event):
    """The worker does not listen for new jobs. It polls meanwhile."""

    error: str
    retry_in: float
    """The seconds until it opens the session again."""


# --- its work for the fleet -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class WorkersRecovered(Event):
    """A sweep has given back the jobs of dead workers. Not emitted if it found no dead worker."""

    dead_worker_ids: tuple[str, ...]
    jobs: int
    """The number of jobs that were given back."""


@attrs.frozen(kw_only=True)
class LocksReset(Event):
    """The worker has released all locks that are older than four hours. Emitted even if there were none."""

    jobs: int
    """The number of jobs that were unlocked."""
    queues: int
    """The number of named queues that were unlocked."""


@attrs.frozen(kw_only=True)
class MaintenanceFailed(Event):
    """A maintenance chore has failed. It is tried again at its next interval."""

    what: str
    """The chore: "looking for dead workers", "releasing old locks" or "taking a sample"."""
    error: str


@attrs.frozen(kw_only=True)
class CronStarted(Event):
    """The database knows the entries of the crontab, and the worker watches their times."""

    entries: tuple[str, ...]
    """The identifiers of the entries."""
    at: datetime
    """The time from which on they are watched. Earlier times are added only as backfill."""


@attrs.frozen(kw_only=True)
class CronTicked(Event):
    """Entries of the crontab are due. Not emitted at times at which none is due."""

    at: datetime
    """The time at which they are due."""
    entries: tuple[CronItem, ...]
    """The entries that are due, in the order of the crontab."""
    backfilled: bool
    """Whether this makes up for a time that was missed."""


@attrs.frozen(kw_only=True)
class CronOverdue(Event):
    """The worker noticed a due time late: the machine slept, or its clock was set."""

    late: float
    """How late it was, in seconds."""


@attrs.frozen(kw_only=True)
class CronJobScheduled(Event):
    """This worker has added a recurring job. One worker of a fleet adds it and emits the event."""

    entry: CronItem
    at: datetime
    """The time of the entry for which it was added."""
    job_id: int
    backfilled: bool
    """Whether this makes up for a time that was missed."""


@attrs.frozen(kw_only=True)
class CronFailed(Event):
    """Recurring jobs could not be added. The worker tries again."""

    error: str
    retry_in: float
    """The seconds until it tries again."""


CLAIM_EVENTS: tuple[type[Event], ...] = (
    ClaimFailed,
    JobsClaimed,
    LocalQueueModeChanged,
    RefetchDelayAborted,
    RefetchDelayExpired,
    RefetchDelayStarted,
)
"""The events that a local queue emits."""
