"""What a worker is doing, and what waits in the queue, as values."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from trio_graphile._model.jobs import Job


@attrs.frozen(kw_only=True)
class RunningJobStatistics:
    """A job whose handler runs."""

    job: Job
    seconds: float
    """How long it has run."""
    progress: Any = None
    """What the handler has reported last (`JobContext.report`)."""


class WorkerPhase(enum.Enum):
    """How far a worker has come."""

    NOT_RUNNING = "not running"
    """It was not started yet, or has ended."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    """It takes no more jobs."""


class ListenState(enum.Enum):
    """Whether a worker hears of new jobs."""

    OFF = "off"
    """It does not want to: it polls, or runs what is due and ends."""
    CONNECTING = "connecting"
    LISTENING = "listening"
    LOST = "lost"
    """The session was lost, or could not be opened; the worker polls meanwhile."""


@attrs.frozen(kw_only=True)
class WorkerStatistics:
    """What a worker is doing at this moment. Durations are seconds."""

    phase: WorkerPhase = WorkerPhase.NOT_RUNNING
    running: tuple[RunningJobStatistics, ...] = ()
    """The jobs whose handlers run, the oldest first."""
    held: int = 0
    """How many jobs its local queue holds."""
    unrecorded: int = 0
    """How many outcomes wait to be written."""
    slots: int = 0
    """How many jobs it can run at once."""
    busy: int = 0
    """How many of its slots have a job."""
    idle: int = 0
    """How many of its slots wait for a job."""
    paused: int = 0
    """How many of its slots wait for outcomes to be written, since too many are not."""
    has_room: bool = True
    """Whether there is room for further outcomes: slots pause while there is none."""
    completed: int = 0
    """How many runs have succeeded since it started, as recorded."""
    failed: int = 0
    """How many runs have failed since then."""
    heartbeat_age: float | None = None
    """How long ago its lease was renewed last."""
    lease_holds: bool = True
    """Whether nobody may have taken its jobs: false if it could not renew its lease for too long."""
    listen_state: ListenState = ListenState.OFF
    claim_age: float | None = None
    """How long ago a claim came back last, with jobs or without; None if none has."""
    claim_pending: float = 0.0
    """For how long the claim that is under way has been tried; 0 if none is."""
    claim_overdue: float = 0.0
    """How late the next claim is that idle slots wait for; 0 if none is due."""
    record_pending: float = 0.0
    """For how long the record of outcomes that is under way has been tried; 0 if none is."""
    record_overdue: float = 0.0
    """For how long outcomes have been due that nobody writes; 0 if none are."""
    standstills: tuple[str, ...] = ()
    """What has stood still for some seconds though nothing keeps it: a slot or a service that died, say."""
    standstill: float = 0.0
    """For how long something has; 0 if nothing does."""
    loop_lag: float = 0.0
    """How late the event loop came to what it was asked for last; it is asked twice a second."""
    events_waiting: int = 0
    """How many events wait for their observers."""
    events_dropped: int = 0
    """How many events nobody heard of, since too many waited."""


@attrs.frozen(kw_only=True)
class Backlog:
    """How many jobs of a queue are in which state, whichever program handles them."""

    ready: int
    """They are due, and wait for a worker, or for another job of their named queue."""
    scheduled: int
    """They are due later; those that failed and are tried again are among them."""
    locked: int
    """Some worker holds them, to run them now or soon."""
    failed: int
    """No attempt is left to them."""
    oldest_ready: float | None = None
    """For how long the one that waits longest has been due, in seconds; None if none waits."""
