"""The health of the queue, as far as it can be known without reading the whole table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trio_graphile._database.connection import Executor
from trio_graphile._database.inspection import list_hidden
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.counts import count_states
from trio_graphile._database.summaries.tasks import find_neglected
from trio_graphile._model.diagnosis import Lock, QueueFacts

COUNT_ROWS = Statement("""
    select coalesce(pg_catalog.pg_stat_get_live_tuples(jobs_table.id), 0) as live_rows,
      coalesce(pg_catalog.pg_stat_get_dead_tuples(jobs_table.id), 0) as dead_rows
    from (
      select to_regclass($trio_graphile${schema}._private_jobs$trio_graphile$)::oid as id
    ) as jobs_table
""")  # as the server has counted them on the way


async def look_at_health(
    executor: Executor, *, alive: Mapping[str, bool], tasks: Sequence[str], locks: Sequence[Lock]
) -> QueueFacts:
    """Return facts about the queue as `probe.probe_queue` does, but read a bounded number of rows.

    `alive` says of each registered worker whether it sends heartbeats, `tasks` are those of the live ones,
    and `locks` are the locks that were found.
    """
    [rows] = await executor.fetch(COUNT_ROWS)
    counts = await count_states(executor)
    return QueueFacts(
        **rows,
        hidden=await list_hidden(executor),
        locks=locks,
        neglected=await find_neglected(executor, tasks),
        live_workers=sum(alive.values()),
        failed_jobs=counts.failed.value,
    )
