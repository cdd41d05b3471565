"""Why a job does not run: what was seen of it and around it, and what follows from that."""

from __future__ import annotations

from datetime import datetime

import attrs

from trio_graphile._model.inspection import ListedJob
from trio_graphile._model.listing import Count
from trio_graphile._model.statistics import WorkerPhase

_NONE = Count(value=0)


@attrs.frozen(kw_only=True)
class TaskWorker:
    """A live worker that says that it has the job's task."""

    worker_id: str
    phase: WorkerPhase | None = None
    """None if it does not say."""
    forbidden_flags: tuple[str, ...] = ()
    """Empty if it forbids none, or does not say."""
    accepted_flags: tuple[str, ...] | None = None
    """None if it has no such rule, or does not say."""
    allowed_flags: tuple[str, ...] | None = None
    """None if it has no such rule, or does not say."""


@attrs.frozen(kw_only=True)
class LockOwner:
    """Somebody in whose name a job or a queue is locked."""

    worker_id: str
    is_registered: bool = False
    """Whether it has a heartbeat; workers of Node never have, nor ours without recovery."""
    is_stale: bool = False
    """Whether it was silent for so long that it is taken for dead."""
    last_sign_at: datetime | None = None
    """Its last heartbeat; of one that is not registered, when it took or renewed the newest of its locks."""
    given_back_at: datetime | None = None
    """From when on a sweep gives back what it has locked, if nothing more is heard of it."""


@attrs.frozen(kw_only=True)
class JobQueueFacts:
    """What was seen of the named queue of a job."""

    queue_name: str
    locked_at: datetime | None = None
    owner: LockOwner | None = None
    """Who has the queue locked."""
    running_id: int | None = None
    """The job of the queue that is locked; None if none is, or none was found in time."""
    ahead: Count = _NONE
    """How many jobs of the queue are due and come before ours."""
    first_ahead_id: int | None = None
    """The first of these."""


@attrs.frozen(kw_only=True)
class JobFacts:
    """What was seen of a job and of all that may stand in its way, at one time."""

    listed: ListedJob
    now: datetime
    """The database's time."""
    workers: tuple[TaskWorker, ...] = ()
    """The live workers that say that they have its task."""
    silent_workers: int = 0
    """How many live workers do not say which tasks they have: those of other kinds."""
    queue: JobQueueFacts | None = None
    """Its named queue, if it has one."""
    ahead: Count = _NONE
    """How many due jobs of its task, outside of named queues, come before it: by priority, time and id."""
    owner: LockOwner | None = None
    """The worker that has the job locked."""
