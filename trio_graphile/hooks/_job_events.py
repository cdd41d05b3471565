"""Events about jobs. Those about the end of a run are emitted once the database has confirmed it."""

from __future__ import annotations

import enum

import attrs

from trio_graphile.hooks._event import JobEvent


class InterruptReason(enum.Enum):
    """Why a job was interrupted."""

    SHUTDOWN = "shutdown"
    """Its worker stopped, or was cancelled."""
    LEASE = "lease"
    """Its worker could not renew its lease, so that another worker might have taken the job."""
    REQUESTED = "requested"
    """`Client.cancel_jobs` asked for it."""
    WORKER_CRASHED = "worker crashed"
    """Its worker died. The worker that emits the event has given the job back."""


@attrs.frozen(kw_only=True)
class JobTaken(JobEvent):
    """A slot has taken a job, and is about to run it."""


@attrs.frozen(kw_only=True)
class JobStarted(JobEvent):
    """A handler is about to be called: every `before_job_run` interceptor has let its job pass."""


@attrs.frozen(kw_only=True)
class JobCompleted(JobEvent):
    """A job has succeeded, or an interceptor has skipped it or its error. Its row is deleted."""

    duration: float
    """How long its run took, in seconds, interceptors included."""


@attrs.frozen(kw_only=True)
class JobFailed(JobEvent):
    """A job has failed, and will be tried again."""

    error: str
    """The text in `last_error`."""
    duration: float
    """How long its run took, in seconds, interceptors included; 0 if its handler could not be called."""
    retry_in: float | None
    """The seconds until its next attempt; None if the database computes them from the number of attempts."""


@attrs.frozen(kw_only=True)
class JobFailedPermanently(JobEvent):
    """A job has failed, and no attempt is left. Emitted instead of `JobFailed`."""

    error: str
    """The text in `last_error`."""
    duration: float
    """How long its run took, in seconds, interceptors included; 0 if its handler could not be called."""


@attrs.frozen(kw_only=True)
class JobSnoozed(JobEvent):
    """A handler has put its job off, which costs no attempt."""

    delay: float
    """The seconds until it may run again."""
    duration: float
    """How long its run took, in seconds."""


@attrs.frozen(kw_only=True)
class JobInterrupted(JobEvent):
    """A job was interrupted through no fault of its own, and went back to the queue.

    It got its attempt back, unless an interceptor decided `FailWithBackoff` when the job was recovered, or
    its workers have died three times in a row.
    """

    reason: InterruptReason
    duration: float = 0.0
    """How long it ran, in seconds; 0 if that is unknown, as after a crash."""
    previous_worker_id: str | None = None
    """The worker that died; None with other reasons."""


@attrs.frozen(kw_only=True)
class JobRemoved(JobEvent):
    """A running job was replaced or removed through its key. Its run was interrupted."""

    duration: float
    """How long it ran, in seconds."""


@attrs.frozen(kw_only=True)
class JobTakenAway(JobEvent):
    """This worker did not hold the job any more when its run ended. Nothing of the run was recorded."""

    duration: float
    """How long it ran, in seconds."""
