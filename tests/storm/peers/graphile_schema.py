"""What Graphile Worker's tables say, for those who share them."""

from __future__ import annotations

STATES = """
    select (payload->>'token')::bigint as token,
      case
        when locked_at is not null then 'running'
        when attempts >= max_attempts then 'dead'
        else 'waiting'
      end as state,
      attempts::integer as attempts,
      locked_by as holder
    from graphile_worker._private_jobs
"""
LOCKS = "select locked_by as holder from graphile_worker._private_job_queues where locked_at is not null"
