"""Jobs of any kind, many at once: added by the schema's own function, as every other program does."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any

from trio_graphile._database.adding.answer import Answer, other_rows
from trio_graphile._database.connection import Connection, Executor, Row
from trio_graphile._database.rows import job_as_added, values_as_added
from trio_graphile._database.statement import Statement, array_literal
from trio_graphile._model.jobs import DEFAULT_MAX_ATTEMPTS, Job, NewJob

_ASKED = """unnest(
        $1::text[], $2::text[], $3::text[], $4::timestamptz[],
        $5::smallint[], $6::text[], $7::smallint[], $8::text[]
      ) with ordinality as asked(
        identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags, place
      )"""
_ADDED_BY_FUNCTION = """{schema}.add_jobs(
      array(
        select row(
          asked.identifier,
          asked.payload::json,
          asked.queue_name,
          asked.run_at,
          asked.max_attempts,
          asked.job_key,
          asked.priority,
          asked.flags::text[]
        )::{schema}.job_spec
        from {asked}
        order by asked.place
      ),
      $9::boolean
    )"""

ADD_JOBS = Statement(
    """
    with asked as materialized (
      select *
      from {asked}
    )
    select added.id, case when added.revision > 0 then added.payload::text end as payload_json,
      added.key, added.revision, added.flags::text as flags,
      date_part('epoch', added.run_at) as run_at, date_part('epoch', added.created_at) as created_at,
      date_part('epoch', added.updated_at) as updated_at,
      case
        when asked.job_key is not null or added.key is not null then asked.job_key = added.key
        else asked.identifier = tasks.identifier
          and asked.queue_name is not distinct from queues.queue_name
          and asked.payload = added.payload::text
          and coalesce(asked.run_at, added.run_at) = added.run_at
          and coalesce(asked.max_attempts, 25) = added.max_attempts
          and coalesce(asked.priority, 0) = added.priority
          and (
            select jsonb_object_agg(flag.name, true)
            from unnest(asked.flags::text[]) as flag(name)
          ) is not distinct from added.flags
      end is true as is_asked
    from {added} with ordinality as added
    left join asked on asked.place = added.ordinality
    left join {schema}._private_tasks as tasks on tasks.id = added.task_id
    left join {schema}._private_job_queues as queues on queues.id = added.job_queue_id
    order by added.ordinality
""".replace("{added}", _ADDED_BY_FUNCTION.replace("{asked}", "asked")).replace("{asked}", _ASKED)
)
# $1 identifiers, $2 payloads, $3 queues, $4 times, $5 maxima of attempts, $6 keys, $7 priorities, $8 flags,
# each the text of an array; $9 whether run_at is preserved.
# Only the columns come back that we do not know; a payload only if it may have been merged with an older one.
# A function of another program may return the rows in a different order: `is_asked` says whether a row is the
# one that was asked for at its place. It is false for new names, which the statement does not see yet.

ADDED_JOBS = Statement("""
    select jobs.id, jobs.key, tasks.identifier, queues.queue_name, jobs.payload::text as payload,
      jobs.max_attempts, jobs.priority, jobs.run_at,
      array(select jsonb_object_keys(jobs.flags)) as flags
    from {schema}._private_jobs as jobs
    left join {schema}._private_tasks as tasks on tasks.id = jobs.task_id
    left join {schema}._private_job_queues as queues on queues.id = jobs.job_queue_id
    where jobs.id = any($1::bigint[])
""")  # $1 job ids


async def add_jobs(connection: Connection, new_jobs: Sequence[NewJob], *, preserve_run_at: bool) -> Answer:
    """Add many jobs, no two of them under one key. Needs a transaction: if it raises, some may be added.

    Raises `StatementFailed` if other rows come back than were asked for.
    """
    rows = await connection.fetch(ADD_JOBS, *_columns(new_jobs), preserve_run_at)
    if len(rows) != len(new_jobs):
        raise other_rows(len(new_jobs), len(rows))
    if not all(row["is_asked"] for row in rows):
        by_id = {row["id"]: row for row in rows}
        added = await connection.fetch(ADDED_JOBS, list(by_id))
        rows = [by_id[job_id] for job_id in _ids_as_asked(new_jobs, added)]
    return partial(_jobs_of, new_jobs, [tuple(row.values())[:-1] for row in rows])


def _columns(new_jobs: Sequence[NewJob]) -> tuple[Sequence[object], ...]:
    """Return the arrays $1 to $8 of ADD_JOBS."""
    specs = [new_job.spec for new_job in new_jobs]
    return (
        [new_job.identifier for new_job in new_jobs],
        [new_job.payload_json for new_job in new_jobs],
        [spec.queue_name for spec in specs],
        [spec.run_at for spec in specs],
        [spec.max_attempts for spec in specs],
        [spec.job_key for spec in specs],
        [spec.priority for spec in specs],
        [None if spec.flags is None else array_literal(spec.flags) for spec in specs],
    )


def _ids_as_asked(new_jobs: Sequence[NewJob], added: Sequence[Row]) -> list[int]:
    """Return the ids of the rows in the order in which they were asked for; equal rows are sorted by id."""
    times: dict[Hashable, dict[int, datetime]] = {}
    for row in sorted(added, key=itemgetter("id")):
        job_id, key, *look, run_at, flags = row.values()
        times.setdefault(key or (*look, frozenset(flags)), {})[job_id] = run_at
    ids: dict[int, int] = {}
    # Jobs that may have any time take the rows that the others leave.
    for place, new_job in sorted(enumerate(new_jobs), key=lambda one: one[1].spec.run_at is None):
        spec = new_job.spec
        priority = 0 if spec.priority is None else spec.priority
        max_attempts = DEFAULT_MAX_ATTEMPTS if spec.max_attempts is None else spec.max_attempts
        asked = (new_job.identifier, spec.queue_name, new_job.payload_json, max_attempts, priority)
        candidates = times.get(spec.job_key or (*asked, frozenset(spec.flags or ())), {})
        wanted = None if spec.job_key else spec.run_at
        job_id = next((job_id for job_id, run_at in candidates.items() if wanted in (None, run_at)), None)
        if job_id is None:
            raise other_rows(len(new_jobs), len(added))
        ids[place] = job_id
        del candidates[job_id]
    return [ids[place] for place in range(len(new_jobs))]


def _jobs_of(new_jobs: Sequence[NewJob], rows: Sequence[tuple[Any, ...]]) -> list[Job]:
    jobs = []
    for new_job, (job_id, merged, key, revision, flags, *times) in zip(new_jobs, rows, strict=True):
        payload_json = new_job.payload_json if merged is None else merged
        values = values_as_added(new_job.spec, flags, times, key=key, revision=revision)
        jobs.append(job_as_added(job_id, new_job.identifier, payload_json, values))
    return jobs


ADD_KEYED_JOBS = Statement(
    """
    with added as materialized (
      select *
      from {added}
    )
    select
      case
        when array_agg(added.key) = $6::text[]
          or array(select other.key from added as other order by other.key)
            = array(select asked.key from unnest($6::text[]) as asked(key) order by asked.key)
        then array_agg(added.id)
        else array[
          format(
            'asked for %s jobs, but the %s that came back are others: '
              'does a trigger on _private_jobs change or suppress rows?',
            cardinality($6::text[]),
            count(*)
          )::bigint
        ]
      end as ids,
      array_agg(case when added.revision > 0 then added.payload::text end) as payloads,
      array_agg(added.key) as keys,
      array_agg(added.revision) as revisions,
      array_agg(added.flags::text) as flags,
      array_agg(date_part('epoch', added.run_at)) as run_at,
      array_agg(date_part('epoch', added.created_at)) as created_at,
      array_agg(date_part('epoch', added.updated_at)) as updated_at
    from added
""".replace("{added}", _ADDED_BY_FUNCTION.replace("{asked}", _ASKED))
)
# Like ADD_JOBS, for jobs that all have keys, which show which row belongs to which job. The answer is one row
# of arrays in one order: it needs no joins, and reading it takes a third of the time.


async def add_keyed_jobs(executor: Executor, new_jobs: Sequence[NewJob], *, preserve_run_at: bool) -> Answer:
    """Add many jobs, each under a key of its own, all or none. Raises `StatementFailed`."""
    row = await executor.fetch_row(ADD_KEYED_JOBS, *_columns(new_jobs), preserve_run_at)
    assert row is not None  # noqa: S101  # an aggregate has one row
    return partial(_keyed_jobs_of, new_jobs, row)


def _keyed_jobs_of(new_jobs: Sequence[NewJob], row: Row) -> list[Job]:
    """Return the jobs in the given order; a function of another program may return a different one."""
    columns = dict(row)
    by_key = dict(zip(columns["keys"], zip(*columns.values(), strict=True), strict=True))
    rows = [by_key[new_job.spec.job_key] for new_job in new_jobs]
    return _jobs_of(new_jobs, rows)
