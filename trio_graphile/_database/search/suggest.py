"""Suggests names of tasks and queues that begin with a prefix."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement
from trio_graphile._model.texts import check_text

WINDOW_ROWS = 20_000  # rows that one statement reads
MOST_SUGGESTED_NAMES = 20  # at a time

# In most collations the names with a prefix are not adjacent, but none of them precedes it.
_SUGGEST = """
    select names.name
    from (
      select named.{column} as name
      from {schema}.{table} as named
      where named.{column} >= $1::text
      order by named.{column}
      limit $2::bigint
    ) as names
    where starts_with(names.name, $1::text)
    limit $3::bigint
"""
# $1 prefix, $2 at how many names to look, $3 how many are wanted

SUGGEST_TASKS = Statement(_SUGGEST.replace("{column}", "identifier").replace("{table}", "_private_tasks"))


async def suggest_tasks(
    executor: Executor, prefix: str, limit: int = MOST_SUGGESTED_NAMES, *, window: int = WINDOW_ROWS
) -> list[str]:
    """Return the identifiers of tasks with a prefix, in order, among `window` that are read."""
    check_text("prefix", prefix)
    return [row["name"] for row in await executor.fetch(SUGGEST_TASKS, prefix, window, limit)]


SUGGEST_QUEUES = Statement(
    _SUGGEST.replace("{column}", "queue_name").replace("{table}", "_private_job_queues")
)


async def suggest_queues(
    executor: Executor, prefix: str, limit: int = MOST_SUGGESTED_NAMES, *, window: int = WINDOW_ROWS
) -> list[str]:
    """Return the names of queues with a prefix, in order, among `window` that are read."""
    check_text("prefix", prefix)
    return [row["name"] for row in await executor.fetch(SUGGEST_QUEUES, prefix, window, limit)]
