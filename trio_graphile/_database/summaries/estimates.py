"""Sizes that the server knows without counting: its statistics, and which indexes exist."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from trio_graphile._database.connection import Executor
from trio_graphile._database.statement import Statement

MAIN_INDEX = "jobs_main_index"
FAILED_INDEX = "trio_graphile_failed_index"
QUEUE_INDEX = "trio_graphile_queue_index"
TASK_INDEX = "trio_graphile_task_index"
QUEUED_INDEX = "trio_graphile_queued_index"


@attrs.frozen(kw_only=True)
class Sizes:
    """The size of the table of jobs, as far as the server knows it without reading it."""

    live_rows: int
    """How many jobs there are, as the server has counted them while they came and went."""
    is_analyzed: bool
    """Whether the planner has statistics of the columns. Without them its guesses are wild."""
    indexes: Mapping[str, int | None] = attrs.field(factory=dict)
    """The indexes that can be used, each with its estimated number of entries, if that is known."""


SIZE_TABLE = Statement("""
    select coalesce(pg_catalog.pg_stat_get_live_tuples(jobs_class.oid), 0) as live_rows,
      exists (
        select
        from pg_catalog.pg_stats as stats
        where stats.schemaname = namespaces.nspname
          and stats.tablename = jobs_class.relname
          and stats.attname = 'locked_at'
      ) as is_analyzed
    from pg_catalog.pg_class as jobs_class
    join pg_catalog.pg_namespace as namespaces on namespaces.oid = jobs_class.relnamespace
    where jobs_class.oid = to_regclass($trio_graphile${schema}._private_jobs$trio_graphile$)::oid
""")

SIZE_INDEXES = Statement("""
    select index_class.relname::text as name,
      case
        when index_class.reltuples < 0 then null
        when index_class.relpages < 1 then index_class.reltuples::float8
        else index_class.reltuples::float8 / index_class.relpages
          * pg_catalog.pg_relation_size(index_class.oid) / current_setting('block_size')::float8
      end as entries
    from pg_catalog.pg_index as indexes
    join pg_catalog.pg_class as index_class on index_class.oid = indexes.indexrelid
    where indexes.indrelid = to_regclass($trio_graphile${schema}._private_jobs$trio_graphile$)::oid
      and indexes.indisvalid
""")
# Estimated as the planner does: with the density of the last analysis and the size of today. Null for an
# index that was never analyzed; servers before PostgreSQL 14 say 0.


async def usable_indexes(executor: Executor) -> dict[str, int | None]:
    """Return the indexes of jobs, each with its estimated number of entries, if that is known.

    A schema that we have not completed lacks some of them.
    """
    return {
        row["name"]: None if row["entries"] is None else round(row["entries"])
        for row in await executor.fetch(SIZE_INDEXES)
    }


async def look_at_sizes(executor: Executor) -> Sizes:
    """Read the catalog of the server, without reading jobs."""
    [table] = await executor.fetch(SIZE_TABLE)
    return Sizes(**table, indexes=await usable_indexes(executor))


PLAN_DUE = Statement("""
    explain (format json)
    select from {schema}._private_jobs as jobs
    where jobs.run_at <= now()
""")
PLAN_UNAVAILABLE = Statement("""
    explain (format json)
    select from {schema}._private_jobs as jobs
    where jobs.is_available = false
""")
PLAN_LOCKED = Statement("""
    explain (format json)
    select from {schema}._private_jobs as jobs
    where jobs.locked_at is not null
""")
# The plan shows what the planner expects; nothing is run. For `attempts >= max_attempts` it guesses a third
# of all rows, so we do not ask it that.


async def estimate_rows(executor: Executor, plan: Statement) -> int:
    """Return how many rows the planner expects of the statement that `plan` explains."""
    [explained] = _decoded(await executor.fetch_value(plan))
    return int(explained["Plan"]["Plan Rows"])


def _decoded(plan: Any) -> list[Mapping[str, Any]]:
    """Return a plan as values; only some sessions decode JSON."""
    plans: list[Mapping[str, Any]] = json.loads(plan) if isinstance(plan, str) else plan
    return plans
