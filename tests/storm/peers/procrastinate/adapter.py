"""How Procrastinate takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import python_program, version_of
from tests.storm.adapters import Contender

_HERE = Path(__file__).parent
_STATES = """
    select (args->>'token')::bigint as token,
      case status::text
        when 'todo' then 'waiting'
        when 'doing' then 'running'
        when 'succeeded' then 'finished'
        else 'dead'
      end as state,
      attempts + (status = 'doing')::integer as attempts,
      worker_id::text as holder
    from procrastinate_jobs
    where task_name = 'work'
"""


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "requirements.txt", r"procrastinate==(.+)")
    return Contender(
        project=f"Procrastinate {version} (Python)",
        settings="shutdown_graceful_timeout; RetryStrategy(max_attempts=25); a task retry_stalled_jobs",
        command=python_program(_HERE, cache),
        states=_STATES,
        recovers_after=630.0,
        remarks=(
            "What a stop aborts runs again only with a retry strategy; each abort is a retry then.",
            "Its worker ends when the database does, and leaves it to supervisors to begin again.",
            "Ignored cancellations keep it from ending: that is left to the process manager.",
        ),
    )
