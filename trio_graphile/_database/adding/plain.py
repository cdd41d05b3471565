"""Jobs without a key and a queue: our own statements insert one job, or many that are alike.

The statements do the same as the functions of the schema, but cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from trio_graphile._database.adding.answer import Answer
from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.rows import job_as_added, values_as_added
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import Job, JobSpec, NewJob

_ADDED = """with task as materialized (
      select tasks.id
      from {schema}._private_tasks as tasks
      where tasks.identifier = $1::text
      for key share
    ),
    adding as (
      insert into {schema}._private_tasks (identifier)
      select $1::text
      where false
    ),
    added as (
      insert into {schema}._private_jobs as jobs
        (task_id, payload, run_at, max_attempts, priority, flags)
      select
        task.id,
        given.payload::json,
        coalesce($3::timestamptz, now()),
        coalesce($4::smallint, 25::smallint),
        coalesce($5::smallint, 0::smallint),
        (select jsonb_object_agg(flag.name, true) from unnest($6::text[]) as flag(name))
      from task
      cross join {given}
      returning jobs.id, jobs.flags, jobs.run_at, jobs.created_at, jobs.updated_at
    )"""
# `adding` inserts nothing: it locks the table until the commit, as every program does that adds a job. By
# this lock, not by the rows, our cleanup and Rust's notice that jobs are being added.
_ONE = "(select $2::text as payload) as given"
_MANY_IN_ORDER = """unnest($2::text[]) with ordinality as given(payload, position)
      order by given.position"""

ADD_PLAIN_JOB = Statement(
    """
    {added}
    select added.id, added.flags::text as flags,
      date_part('epoch', added.run_at) as run_at, date_part('epoch', added.created_at) as created_at,
      date_part('epoch', added.updated_at) as updated_at,
      pg_notify('jobs:insert', json_build_object('r', random(), 'count', 1)::text) as notified
    from added
""".replace("{added}", _ADDED.replace("{given}", _ONE))
)
# $1 identifier, $2 payload, $3 time, $4 maximum of attempts, $5 priority, $6 flags. Does what the schema's
# function does with such a job, for an eighth less, in an idle server a fifth: nothing is interpreted.


async def add_plain_job(executor: Executor, new_job: NewJob) -> Job | None:
    """Add a job that has no key and no queue. Returns None, and adds nothing, if its task is unknown."""
    identifier, payload_json, spec = new_job.identifier, new_job.payload_json, new_job.spec
    row = await executor.fetch_row(
        ADD_PLAIN_JOB, identifier, payload_json, spec.run_at, spec.max_attempts, spec.priority, spec.flags
    )
    if row is None:
        return None
    job_id, flags, *times, _ = row.values()
    return job_as_added(job_id, identifier, payload_json, values_as_added(spec, flags, times))


ADD_ALIKE_JOBS = Statement(
    """
    {added}
    select
      case
        when (select count(*) from added) = cardinality($2::text[])
        then array(select added.id from added order by added.id)
        else array[
          format(
            'asked for %s jobs, but %s came back: does a trigger on _private_jobs suppress rows?',
            cardinality($2::text[]),
            (select count(*) from added)
          )::bigint
        ]
      end as ids,
      one.flags::text as flags,
      date_part('epoch', one.run_at) as run_at, date_part('epoch', one.created_at) as created_at,
      date_part('epoch', one.updated_at) as updated_at,
      pg_notify(
        'jobs:insert',
        json_build_object('r', random(), 'count', cardinality($2::text[]))::text
      ) as notified
    from (
      select added.flags, added.run_at, added.created_at, added.updated_at
      from added
      limit 1
    ) as one
""".replace("{added}", _ADDED.replace("{given}", _MANY_IN_ORDER))
)
# $1 identifier, $2 payloads, $3 time, $4 maximum of attempts, $5 priority, $6 flags. Does what the schema's
# function does with such jobs, at two thirds of its price; the function takes and returns arrays of rows. If
# a trigger suppresses rows, none must stay: then a text that is no number makes the statement fail.


async def add_alike_jobs(executor: Executor, new_jobs: Sequence[NewJob]) -> Answer | None:
    """Add jobs that differ only in their payloads. Returns None, and adds nothing, if their task is unknown.

    The jobs must be `are_alike`.
    """
    identifier, spec = new_jobs[0].identifier, new_jobs[0].spec
    payloads = [new_job.payload_json for new_job in new_jobs]
    row = await executor.fetch_row(
        ADD_ALIKE_JOBS, identifier, payloads, spec.run_at, spec.max_attempts, spec.priority, spec.flags
    )
    if row is None:
        return None
    return partial(_alike_jobs_of, identifier, spec, payloads, row)


def are_alike(new_jobs: Sequence[NewJob]) -> bool:
    """Return whether jobs have one task, no keys, no queues, and differ only in their payloads."""
    identifier, spec = new_jobs[0].identifier, new_jobs[0].spec
    return (
        spec.job_key is None
        and spec.queue_name is None
        and all(new_job.identifier == identifier for new_job in new_jobs)
        and all(new_job.spec is spec or new_job.spec == spec for new_job in new_jobs)
    )


def _alike_jobs_of(identifier: str, spec: JobSpec, payloads: Sequence[str], row: Row) -> list[Job]:
    ids, flags, *times, _ = row.values()
    values = values_as_added(spec, flags, times)
    return [
        job_as_added(job_id, identifier, payload_json, values)
        for job_id, payload_json in zip(ids, payloads, strict=True)
    ]
