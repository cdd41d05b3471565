"""What a worker is doing, and the jobs in the queue, as values."""

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
    """How long the job has run."""
    progress: Any = None
    """What the handler has reported last (`JobContext.report`)."""


class WorkerPhase(enum.Enum):
    """The phases in the life of a worker."""

    NOT_RUNNING = "not running"
    """The worker was not started yet, or has ended."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    """The worker takes no more jobs."""


class ListenState(enum.Enum):
    """Whether a worker is notified of new jobs."""

    OFF = "off"
    """The worker does not listen: it polls, or runs the due jobs and ends."""
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
    """How many jobs the worker can run at once."""
    busy: int = 0
    """How many of its slots have a job."""
    idle: int = 0
    """How many of its slots wait for a job."""
    paused: int = 0
    """How many of its slots wait because too many outcomes are not written yet."""
    has_room: bool = True
    """Whether there is room for further outcomes; slots pause while there is none."""
    completed: int = 0
    """How many runs have succeeded since the worker started, and are recorded."""
    failed: int = 0
    """How many runs have failed since then."""
    heartbeat_age: float | None = None
    """How long ago its lease was last renewed."""
    lease_holds: bool = True
    """Whether no other worker may take its jobs: false if it could not renew its lease for too long."""
    listen_state: ListenState = ListenState.OFF
    claim_age: float | None = None
    """How long ago the last claim ended, with jobs or without; None if none has."""
    claim_pending: float = 0.0
    """How long the current claim has been tried; 0 if there is none."""
    claim_overdue: float = 0.0
    """How late the claim is for which idle slots wait; 0 if none is due."""
    record_pending: float = 0.0
    """How long the current record of outcomes has been tried; 0 if there is none."""
    record_overdue: float = 0.0
    """How long outcomes have been due while nothing writes them; 0 if none are."""
    standstills: tuple[str, ...] = ()
    """The parts that have not moved for some seconds though nothing keeps them: a slot or a service that
    died, say."""
    standstill: float = 0.0
    """How long something has not moved that should; 0 if there is nothing."""
    loop_lag: float = 0.0
    """How late the event loop woke the worker, which asks for that twice a second."""
    events_waiting: int = 0
    """How many events wait for their observers."""
    events_dropped: int = 0
    """How many events were dropped, since too many waited."""


@attrs.frozen(kw_only=True)
class Backlog:
    """How many jobs of all programs are in each state."""

    ready: int
    """Jobs that are due, and wait for a worker, or for another job of their named queue."""
    scheduled: int
    """Jobs that are due later, including those that failed and will be tried again."""
    locked: int
    """Jobs that a worker holds, to run them now or soon."""
    failed: int
    """Jobs that have no attempt left."""
    oldest_ready: float | None = None
    """How long the job that waits longest has been due, in seconds; None if none waits."""
