"""How PgQueuer takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import python_program, version_of
from tests.storm.adapters import Contender

_HERE = Path(__file__).parent
_STATES = """
    select (convert_from(payload, 'utf8')::json->>'token')::bigint as token,
      case status::text when 'queued' then 'waiting' when 'picked' then 'running' else 'dead' end as state,
      attempts + (status::text = 'picked')::integer as attempts,
      queue_manager_id::text as holder
    from pgqueuer
"""


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "requirements.txt", r"pgqueuer\[asyncpg\]==(.+)")
    return Contender(
        project=f"PgQueuer {version} (Python)",
        settings="shutdown, then RetryRequested by handlers of ours; heartbeat_timeout: 30 s (default)",
        command=python_program(_HERE, cache),
        states=_STATES,
        recovers_after=30.0,
        remarks=(
            "It waits for handlers without a bound, and tells them nothing. Ours hear of a stop from us.",
            "A job that is asked to be retried counts as an attempt.",
            "If the database is away when a worker records that, the job has failed for good.",
            "Its worker ends when the database does, and leaves it to supervisors to begin again.",
        ),
    )
