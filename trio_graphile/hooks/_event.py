"""What all events have in common."""

from __future__ import annotations

import attrs

from trio_graphile._model.jobs import Job


@attrs.frozen(kw_only=True)
class Event:
    """Something that has happened. To observe this class is to observe every event."""

    worker_id: str = ""
    """The worker that tells of it, which fills it in."""


@attrs.frozen(kw_only=True)
class JobEvent(Event):
    """Something that has happened to a job. To observe this class is to observe all events about jobs."""

    job: Job
    """The job as it was claimed. What the event has changed in the database is not in it."""
