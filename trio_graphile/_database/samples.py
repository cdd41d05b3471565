"""The table of samples: one row a minute, which the first worker writes, for seven days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._database import worker_registry
from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.counts import count_states
from trio_graphile._model.instants import time_of
from trio_graphile._model.json import decode_if_readable, encode
from trio_graphile._model.listing import StateCounts
from trio_graphile._model.recovery import ActiveWorker
from trio_graphile._model.samples import FleetRuns, Sample, TaskRuns, gained, jobs_held, runs_of, runs_of_json

_STATES = ("ready", "scheduled", "locked", "failed")
_STALE_AFTER = 300.0
"""After so many seconds of silence the locks of a worker are not counted. Its runs are: they do not
change."""


async def take_sample(executor: Executor) -> Sample | None:
    """Write a sample of the queue. Returns None if another worker has written one in this minute.

    Its statements read a bounded number of jobs. If it is interrupted between them, there is a gap.
    """
    minute = await executor.fetch_value(CLAIM_MINUTE)
    if minute is None:
        return None
    workers = await look_at_workers(executor)
    totals = {worker.worker_id: runs for worker in workers if (runs := runs_of(worker.metadata))}
    counts = await count_states(executor, locked=locked_by(workers))
    previous = await executor.fetch_row(READ_TOTALS, minute)
    before = None if previous is None else _fleet_of_json(previous["totals"])
    inserted, deleted = await count_changes(executor)
    sample = attrs.evolve(
        sample_of(counts),
        at=time_of(minute),
        tasks=None if before is None else gained(before, totals),
        inserted=inserted,
        deleted=deleted,
    )
    await executor.execute(
        FILL_SAMPLE,
        minute,
        *(getattr(sample, state) for state in _STATES),
        list(sample.estimated),
        sample.oldest_ready,
        sample.inserted,
        sample.deleted,
        None if sample.tasks is None else encode(_to_json(sample.tasks)),
        encode({worker_id: _to_json(runs) for worker_id, runs in totals.items()}),
        None if previous is None else previous["minute"],
    )
    return sample


CLAIM_MINUTE = Statement("""
    with claimed as (
      insert into {schema}.trio_graphile_samples as samples (minute)
      values (date_trunc('minute', now()))
      on conflict (minute) do nothing
      returning samples.minute
    ),
    outdated as (
      delete from {schema}.trio_graphile_samples as samples
      where samples.minute < now() - interval '7 days'
        and exists (select from claimed)
    )
    select date_part('epoch', claimed.minute) as minute
    from claimed
""")

READ_TOTALS = Statement("""
    select date_part('epoch', samples.minute) as minute, samples.totals::text as totals
    from {schema}.trio_graphile_samples as samples
    where samples.minute < to_timestamp($1::float8)
      and samples.minute > to_timestamp($1::float8) - interval '1 hour'
      and samples.totals is not null
    order by samples.minute desc
    limit 1
""")  # $1 a minute

FILL_SAMPLE = Statement("""
    with forgotten as (
      update {schema}.trio_graphile_samples as samples
      set totals = null
      where samples.minute = to_timestamp($12::float8)
    )
    update {schema}.trio_graphile_samples as samples
    set ready = $2::bigint,
      scheduled = $3::bigint,
      locked = $4::bigint,
      failed = $5::bigint,
      estimated = $6::text[],
      oldest_ready = $7::float8,
      inserted = $8::bigint,
      deleted = $9::bigint,
      tasks = $10::text::jsonb,
      totals = $11::text::jsonb
    where samples.minute = to_timestamp($1::float8)
""")  # $1 minute, $2 to $11 its values, $12 the minute whose totals nobody needs any more


def sample_of(counts: StateCounts) -> Sample:
    """Return a sample that is made of counts alone."""
    oldest = counts.oldest_ready_at
    return Sample(
        at=counts.counted_at,
        **{state: getattr(counts, state).value for state in _STATES},
        estimated=tuple(state for state in _STATES if getattr(counts, state).is_estimate),
        oldest_ready=None if oldest is None else max(0.0, (counts.counted_at - oldest).total_seconds()),
    )


READ_CHANGES = Statement("""
    select pg_catalog.pg_stat_get_tuples_inserted(jobs_class.oid) as inserted,
      pg_catalog.pg_stat_get_tuples_deleted(jobs_class.oid) as deleted
    from pg_catalog.pg_class as jobs_class
    where jobs_class.oid = to_regclass($trio_graphile${schema}._private_jobs$trio_graphile$)::oid
""")


async def count_changes(executor: Executor) -> tuple[int | None, int | None]:
    """Return how many jobs were inserted and deleted since the server began to count."""
    row = await executor.fetch_row(READ_CHANGES)
    return (None, None) if row is None else (row["inserted"], row["deleted"])


async def look_at_workers(executor: Executor) -> list[ActiveWorker]:
    """Return the reports of all registered workers."""
    if not await worker_registry.has_registry(executor):
        return []
    return await worker_registry.list_active_workers(executor, _STALE_AFTER)


def locked_by(workers: Iterable[ActiveWorker]) -> int | None:
    """Return how many jobs live workers report to have locked; None if none of them reports it."""
    said = [jobs_held(worker.metadata) for worker in workers if not worker.is_stale]
    known = [jobs for jobs in said if jobs is not None]
    return sum(known) if known else None


READ_SAMPLES = Statement("""
    select date_part('epoch', samples.minute) as at, samples.ready, samples.scheduled, samples.locked,
      samples.failed, samples.estimated, samples.oldest_ready, samples.inserted, samples.deleted,
      samples.tasks::text as tasks
    from {schema}.trio_graphile_samples as samples
    where samples.minute >= to_timestamp($1::float8)
      and samples.ready is not null
    order by samples.minute
""")  # $1 seconds since 1970


async def read_samples(executor: Executor, since: datetime) -> list[Sample]:
    """Return the samples from a time on, sorted by time."""
    return [_sample_of_row(row) for row in await executor.fetch(READ_SAMPLES, since.timestamp())]


def _sample_of_row(row: Row) -> Sample:
    fields = dict(row)
    tasks = fields["tasks"]
    return Sample(
        **{
            **fields,
            "at": time_of(fields["at"]),
            "estimated": tuple(fields["estimated"]),
            "tasks": None if tasks is None else runs_of_json(decode_if_readable(tasks)),
        }
    )


# --- runs as they are stored ----------------------------------------------------------------------


def _to_json(tasks: Mapping[str, TaskRuns]) -> dict[str, dict[str, Any]]:
    return {identifier: attrs.asdict(runs) for identifier, runs in tasks.items()}


def _fleet_of_json(text: str) -> FleetRuns:
    stored = decode_if_readable(text)
    return (
        {worker_id: runs_of_json(runs) for worker_id, runs in stored.items()}
        if isinstance(stored, dict)
        else {}
    )
