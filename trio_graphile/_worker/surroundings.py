"""Surroundings: the part of a handler's context that is the same for all jobs of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile._model.jobs import Job
from trio_graphile._tasks.context import JobContext, JobNotes


@attrs.frozen(kw_only=True)
class Surroundings:
    """Makes the contexts of handlers."""

    client: Client
    database: Database
    worker_id: str
    state: Any
    stopping: trio.Event
    was_claimed_again: Callable[[Job], bool]

    def context(self, job: Job, notes: JobNotes, to_json: Callable[[Any], str]) -> JobContext:
        """Return the context of a job, whose handler writes to `notes`."""
        return JobContext(
            job=job,
            worker_id=self.worker_id,
            client=self.client,
            database=self.database,
            state=self.state,
            stopping=self.stopping,
            notes=notes,
            to_json=to_json,
            was_claimed_again=self.was_claimed_again,
        )
