"""What a worker is doing, as a value."""

from __future__ import annotations

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


@attrs.frozen(kw_only=True)
class WorkerStatistics:
    """What a worker is doing at this moment."""

    running: tuple[RunningJobStatistics, ...] = ()
    """The jobs whose handlers run, the oldest first."""
    held: int = 0
    """How many jobs its local queue holds."""
    unrecorded: int = 0
    """How many outcomes wait to be written."""
