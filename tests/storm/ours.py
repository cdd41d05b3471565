"""Ours, as a contender like all others."""

from __future__ import annotations

import sys

from tests.storm.adapters import Contender
from trio_graphile._model.version import installed_version

COMMAND = [sys.executable, "-m", "tests.storm.ours_main"]
_STATES = """
    with jobs as (
      select attempts, max_attempts, locked_at, locked_by,
        case json_typeof(payload) when 'array' then payload else json_build_array(payload) end as items
      from graphile_worker._private_jobs
    )
    select (item->>'token')::bigint as token,
      case
        when locked_at is not null then 'running'
        when attempts >= max_attempts then 'dead'
        else 'waiting'
      end as state,
      attempts::integer as attempts,
      locked_by as holder
    from jobs cross join json_array_elements(items) as item
    union all
    select token, 'finished', null, null
    from storm_effects
"""
_LOCKS = "select locked_by as holder from graphile_worker._private_job_queues where locked_at is not null"
_NAME = "trio_graphile"


def is_ours(project: str) -> bool:
    return project.startswith(_NAME)


def contender() -> Contender:
    return Contender(
        project=f"{_NAME} {installed_version() or 'of this checkout'} (Python)",
        settings="grace_period, flush_timeout=4 (default), presence; handlers that heed nothing in processes",
        remarks=("Where there are such handlers, processes are started with the worker (prestart).",),
        command=COMMAND,
        states=_STATES,
        locks=_LOCKS,
        recovers_after=15.0,
    )
