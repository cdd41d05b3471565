"""Cancelling jobs from outside: who has to be asked, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs

from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Failed, Returned
from trio_graphile._model.recovery import WORKER_ID_PREFIX

CancelOutcome: TypeAlias = Literal["fail", "return"]
"""What a cancelled job comes to: it has failed for good, or it goes back to the queue with its attempt."""

DEFAULT_REASON = "Cancelled on request"


@attrs.frozen(kw_only=True)
class CancelRequest:
    """A worker is asked to interrupt one of its jobs."""

    job_id: int
    outcome: CancelOutcome
    reason: str
    requested_at: str
    """As the database writes it; it tells one request from the next."""


@attrs.frozen(kw_only=True)
class CancelledJobs:
    """What became of the jobs that were to be cancelled."""

    requested_ids: tuple[int, ...] = ()
    """Those that run: their workers were asked to interrupt them, and do so within moments."""
    jobs: tuple[Job, ...] = ()
    """Those that waited, and have failed for good now."""
    skipped_ids: tuple[int, ...] = ()
    """Those of no job, those that wait where that was asked for, and those that a worker of another kind
    runs, which nobody can interrupt."""


def requested_outcome(job: Job, request: CancelRequest, payload_json: str | None = None) -> Failed | Returned:
    """Return what a job comes to that was interrupted on request; `payload_json` is its last checkpoint."""
    if request.outcome == "return":
        return Returned(job, payload_json=payload_json)
    return Failed(job, request.reason, permanent=True, payload_json=payload_json)


def within_reach(holders: Iterable[tuple[int, str | None]]) -> list[int]:
    """Return the ids of the jobs that a worker of ours holds, given the ids and who holds them."""
    return [id_ for id_, holder in holders if holder is not None and holder.startswith(WORKER_ID_PREFIX)]
