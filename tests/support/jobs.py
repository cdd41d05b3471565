"""Jobs of which no table knows."""

from __future__ import annotations

from datetime import UTC, datetime

from trio_graphile import Job

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_job(
    id_: int,
    *,
    payload_json: str = "{}",
    queue_name: str | None = None,
    priority: int = 0,
    run_at: datetime = NOON,
) -> Job:
    """Return a job that equals all others made alike, as one does that was given back with its attempt."""
    return Job(
        id=id_,
        task_identifier="a",
        payload_json=payload_json,
        queue_name=queue_name,
        priority=priority,
        run_at=run_at,
        created_at=NOON,
        updated_at=NOON,
    )
