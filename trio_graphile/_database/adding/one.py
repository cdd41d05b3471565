"""One job: inserted by our own statement if it has no key and no queue, else by the schema's function."""

from __future__ import annotations

from trio_graphile._database.adding.plain import add_plain_job
from trio_graphile._database.connection import Executor
from trio_graphile._database.rows import job_columns, job_from_row
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.jobs import Job, NewJob

_TASK_ADDED = """coalesce(
        (
          select tasks.identifier
          from {schema}._private_tasks as tasks
          where tasks.id = jobs.task_id
        ),
        $1::text
      )"""
_QUEUE_ADDED = """case
        when jobs.job_queue_id is not null then coalesce(
          (
            select queues.queue_name
            from {schema}._private_job_queues as queues
            where queues.id = jobs.job_queue_id
          ),
          $3::text
        )
      end"""

ADD_JOB = Statement(f"""
    select {job_columns(task=_TASK_ADDED, queue_name=_QUEUE_ADDED)}
    from {{schema}}.add_job(
      identifier => $1::text,
      payload => $2::text::json,
      queue_name => $3::text,
      run_at => $4::timestamptz,
      max_attempts => $5::integer,
      job_key => $6::text,
      priority => $7::integer,
      flags => $8::text[],
      job_key_mode => $9::text
    ) as jobs
""")
# $1 identifier, $2 payload, $3 queue, $4 time, $5 maximum of attempts, $6 key, $7 priority, $8 flags, $9
# mode. Names come from the rows, since `unsafe_dedupe` may answer with a job of another task and queue. A row
# that this very statement inserts is not visible to it; then the name is the given one.


async def add_job(executor: Executor, new_job: NewJob) -> Job:
    """Add a job, or change the job under its key as the mode says; return the row."""
    spec = new_job.spec
    is_plain = spec.job_key is None and spec.queue_name is None
    if is_plain and (job := await add_plain_job(executor, new_job)) is not None:
        return job
    row = await executor.fetch_row(
        ADD_JOB,
        new_job.identifier,
        new_job.payload_json,
        spec.queue_name,
        spec.run_at,
        spec.max_attempts,
        spec.job_key,
        spec.priority,
        spec.flags,
        spec.job_key_mode.value,
    )
    if row is None or row["id"] is None:
        # Only functions of other programs do this, if a worker takes the keyed job at this moment.
        raise StatementFailed(f"the job under the key {spec.job_key!r} was not added", sqlstate="GWNOR")
    return job_from_row(row)
