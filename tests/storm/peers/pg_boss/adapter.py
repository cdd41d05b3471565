"""How pg-boss takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import npm_program, version_of
from tests.storm.adapters import Contender

_HERE = Path(__file__).parent
_STATES = """
    select (data->>'token')::bigint as token,
      case state::text
        when 'active' then 'running'
        when 'completed' then 'finished'
        when 'created' then 'waiting'
        when 'retry' then 'waiting'
        else 'dead'
      end as state,
      retry_count + (state::text in ('active', 'retry', 'failed'))::integer as attempts,
      null::text as holder
    from pgboss.job
    where name = 'work'
"""


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "package.json", r'"pg-boss": "(.+)"')
    return Contender(
        project=f"pg-boss {version} (Node)",
        settings="stop({graceful, timeout}); retryLimit: 24; heartbeatSeconds: 10; useListenNotify",
        command=npm_program(_HERE, cache),
        states=_STATES,
        recovers_after=70.0,
        remarks=(
            "It fails jobs at its timeout, and tells their handlers then: some begin elsewhere first.",
            "What it fails is retried, which counts as an attempt.",
            "It asks for Node 22.12, and works on 20.",
        ),
    )
