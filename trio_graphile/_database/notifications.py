"""The messages of LISTEN and NOTIFY on the schema's own channels."""

from __future__ import annotations

from typing import Any

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement
from trio_graphile._model.json import decode_if_readable

JOBS_INSERT = "jobs:insert"
"""The channel on which jobs are announced."""
WORKER_MIGRATE = "worker:migrate"
"""The channel on which revisions of the schema are announced."""


ANNOUNCE = Statement("""
    select pg_notify('jobs:insert', json_build_object('r', random(), 'count', $1::integer)::text)
""")  # $1 how many. The random number keeps two notifications of one transaction apart.


async def announce(executor: Executor, jobs: int) -> None:
    """Announce that so many jobs may be there to be claimed."""
    await executor.fetch_value(ANNOUNCE, jobs)


def announced_jobs(payload: str) -> int:
    """Return how many jobs a notification announces: 1 if it has no number, negative for removals."""
    count = _field(payload, "count")
    return count if type(count) is int else 1


def is_breaking(payload: str) -> bool:
    """Return whether a notification announces a revision that breaks older workers."""
    return _field(payload, "breaking") is True


def _field(payload: str, name: str) -> Any:
    try:
        return decode_if_readable(payload)[name]
    except (TypeError, KeyError):
        return None
