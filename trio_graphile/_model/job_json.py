"""Jobs as JSON, with the keys that scripts for Graphile Worker RS know."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from trio_graphile._model.inspection import JobState, ListedJob
from trio_graphile._model.jobs import Job
from trio_graphile._model.verbatim import Verbatim


@attrs.frozen(kw_only=True)
class ShownJob:
    """A job of a list, and its state."""

    id: int
    task_identifier: str
    queue_name: str | None
    payload: Verbatim | None
    """The payload as stored; None if it is left out."""
    priority: int
    run_at: datetime
    attempts: int
    max_attempts: int
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    key: str | None
    locked_at: datetime | None
    locked_by: str | None
    revision: int
    flags: dict[str, bool] | None
    is_available: bool
    state: JobState


@attrs.frozen(kw_only=True)
class ShownChange:
    """A job that was added or changed, as it is now; a completed one as it was."""

    id: int
    task_id: int | None
    task_identifier: str
    job_queue_id: int | None
    queue_name: str | None
    payload: Verbatim | None
    priority: int
    run_at: datetime
    attempts: int
    max_attempts: int
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    key: str | None
    revision: int
    locked_at: datetime | None
    locked_by: str | None
    flags: dict[str, bool] | None


_SHARED = sorted(
    {field.name for field in attrs.fields(ShownJob)} & {field.name for field in attrs.fields(Job)} - {"flags"}
)
"""The fields of a job that are shown under other names."""


def shown_job(listed: ListedJob) -> ShownJob:
    """Return a listed job as it is shown."""
    return ShownJob(**_common(listed.job), is_available=listed.is_available, state=listed.state)


def shown_change(job: Job, origin: ListedJob | None) -> ShownChange:
    """Return a job that was changed, as it is shown.

    `origin` is the same job as read in the same transaction, which has the numbers of task and queue.
    """
    return ShownChange(
        **_common(job),
        task_id=None if origin is None else origin.task_id,
        job_queue_id=None if origin is None else origin.job_queue_id,
    )


def _common(job: Job) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in _SHARED},
        "payload": Verbatim(job.payload_json),
        "flags": dict.fromkeys(job.flags, True) or None,  # as they are stored
    }
