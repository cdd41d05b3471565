"""Events about jobs. Those that tell how a run ended come after the database has confirmed it."""

from __future__ import annotations

import enum

import attrs

from trio_graphile.hooks._event import JobEvent


class InterruptReason(enum.Enum):
    """Why a job did not run to its end."""

    SHUTDOWN = "shutdown"
    """Its worker ended."""
    LEASE = "lease"
    """Its worker could not renew its lease, and others might have taken the job."""
    REQUESTED = "requested"
    """Somebody asked for it with `Client.cancel_jobs`."""
    WORKER_CRASHED = "worker crashed"
    """Its worker is gone, and another one, which tells of it, has given the job back."""


@attrs.frozen(kw_only=True)
class JobTaken(JobEvent):
    """A slot has taken a job, and is about to run it."""


@attrs.frozen(kw_only=True)
class JobStarted(JobEvent):
    """The handler of a job is called now: every interceptor before the run has let it pass."""


@attrs.frozen(kw_only=True)
class JobCompleted(JobEvent):
    """A job has succeeded, or an interceptor has it count as such. Its row is deleted."""

    duration: float
    """How long its run took, in seconds, interceptors included."""


@attrs.frozen(kw_only=True)
class JobFailed(JobEvent):
    """A job has failed, and is tried again."""

    error: str
    """What stands in `last_error`."""
    duration: float
    """How long its run took, in seconds, interceptors included; 0 if its handler could not be called."""
    retry_in: float | None
    """After how many seconds it is tried again; None if the database decides, by the number of attempts."""


@attrs.frozen(kw_only=True)
class JobFailedPermanently(JobEvent):
    """A job has failed, and no attempt is left. Comes instead of `JobFailed`."""

    error: str
    """What stands in `last_error`."""
    duration: float
    """As that of `JobFailed`."""


@attrs.frozen(kw_only=True)
class JobSnoozed(JobEvent):
    """The handler wants the job to run later; its attempt was given back."""

    delay: float
    """After how many seconds it runs again."""
    duration: float
    """How long its run took, in seconds."""


@attrs.frozen(kw_only=True)
class JobInterrupted(JobEvent):
    """A job did not run to its end for no fault of its own, and went back to the queue."""

    reason: InterruptReason
    duration: float = 0.0
    """How long it ran, in seconds; 0 if that is not known, as after a crash."""
    previous_worker_id: str | None = None
    """The worker that crashed, if one did."""


@attrs.frozen(kw_only=True)
class JobRemoved(JobEvent):
    """A job was replaced or removed through its key while it ran; its run was interrupted."""

    duration: float
    """How long it ran, in seconds."""


@attrs.frozen(kw_only=True)
class JobTakenAway(JobEvent):
    """A job was not this worker's any more when its run ended: nothing of the run was recorded."""

    duration: float
    """How long it ran, in seconds."""
