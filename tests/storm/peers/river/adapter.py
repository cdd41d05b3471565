"""How River takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import go_program, version_of
from tests.storm.adapters import Contender

_HERE = Path(__file__).parent
_STATES = """
    select (args->>'token')::bigint as token,
      case state::text
        when 'running' then 'running'
        when 'completed' then 'finished'
        when 'cancelled' then 'dead'
        when 'discarded' then 'dead'
        else 'waiting'
      end as state,
      attempt::integer as attempts,
      attempted_by[array_upper(attempted_by, 1)] as holder
    from river_job
"""


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "go.mod", r"github.com/riverqueue/river v(.+)")
    return Contender(
        project=f"River {version} (Go)",
        settings="SoftStopTimeout, left 2 s after it; JobTimeout: 30 s; RescueStuckJobsAfter: 60 s",
        command=go_program(_HERE, cache),
        states=_STATES,
        recovers_after=90.0,
        remarks=("Jobs of a killed worker, and those that heed nothing, are rescued by time alone.",),
    )
