"""What is said through LISTEN and NOTIFY on the schema's own channels."""

from __future__ import annotations

from typing import Any

from trio_graphile._model.json import decode

JOBS_INSERT = "jobs:insert"
"""The channel on which jobs are announced."""
WORKER_MIGRATE = "worker:migrate"
"""The channel on which a revision of the schema is."""


def announced_jobs(payload: str) -> int:
    """Return how many jobs a notification announces: 1 if it does not say, negative for removals."""
    count = _field(payload, "count")
    return count if type(count) is int else 1


def is_breaking(payload: str) -> bool:
    """Return whether a notification announces a revision that older workers cannot live with."""
    return _field(payload, "breaking") is True


def _field(payload: str, name: str) -> Any:
    try:
        return decode(payload)[name]
    except (ValueError, TypeError, KeyError):
        return None
