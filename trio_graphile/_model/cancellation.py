"""Cancelling jobs from outside: which workers are asked, and what becomes of the jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs

from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Failed, Returned
from trio_graphile._model.recovery import WORKER_ID_PREFIX

CancelOutcome: TypeAlias = Literal["fail", "return"]
"""What becomes of a cancelled job: it fails for good, or returns to the queue with its attempt."""

DEFAULT_REASON = "Cancelled on request"


@attrs.frozen(kw_only=True)
class CancelRequest:
    """A request that a worker interrupt one of its jobs."""

    job_id: int
    outcome: CancelOutcome
    reason: str
    requested_at: str
    """The time as the database writes it, which tells one request from the next."""


@attrs.frozen(kw_only=True)
class CancelledJobs:
    """The result of a request to cancel jobs."""

    requested_ids: tuple[int, ...] = ()
    """Jobs that run: their workers were asked to interrupt them, and do so within moments."""
    jobs: tuple[Job, ...] = ()
    """Jobs that waited: they have failed for good now."""
    skipped_ids: tuple[int, ...] = ()
    """Ids of no job; waiting jobs, if the outcome is `return`; and jobs that a Node or Rust worker runs,
    which cannot be interrupted from here."""


def requested_outcome(job: Job, request: CancelRequest, payload_json: str | None = None) -> Failed | Returned:
    """Return the outcome of a job that was interrupted on request; `payload_json` is its last checkpoint."""
    if request.outcome == "return":
        return Returned(job, payload_json=payload_json)
    return Failed(job, request.reason, permanent=True, payload_json=payload_json)


def within_reach(holders: Iterable[tuple[int, str | None]]) -> list[int]:
    """Return the ids of the jobs that workers of ours hold, given the ids and the holders of jobs."""
    return [id_ for id_, holder in holders if holder is not None and holder.startswith(WORKER_ID_PREFIX)]
