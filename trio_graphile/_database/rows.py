"""Rows of jobs: the columns that every select of jobs has, and the jobs that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from trio_graphile._database.connection import Row
from trio_graphile._database.job_drafts import JobDraft, finished
from trio_graphile._model.jobs import DEFAULT_MAX_ATTEMPTS, Job, JobSpec
from trio_graphile._model.json import decode_if_readable

_COLUMNS = {
    "id": "jobs.id",
    "task": "coalesce(tasks.identifier, '')",
    "payload_json": "jobs.payload::text",
    "queue_name": "queues.queue_name",
    "priority": "jobs.priority",
    "attempts": "jobs.attempts",
    "max_attempts": "jobs.max_attempts",
    "last_error": "jobs.last_error",
    "key": "jobs.key",
    "revision": "jobs.revision",
    "flags": "jobs.flags::text",
    "run_at": "date_part('epoch', jobs.run_at)",
    "created_at": "date_part('epoch', jobs.created_at)",
    "updated_at": "date_part('epoch', jobs.updated_at)",
    "locked_at": "date_part('epoch', jobs.locked_at)",
    "locked_by": "jobs.locked_by",
}
"""The columns of a job, in the order in which `make_job` reads them.

Times are seconds since 1970, since the driver cannot read every time that PostgreSQL has.
"""


def job_columns(**expressions: str) -> str:
    """Return the columns of a select of jobs, as SQL; `expressions` replace columns by name.

    A select may have more columns after these.
    """
    columns = _COLUMNS | expressions
    return ",\n      ".join(f"{expression} as {name}" for name, expression in columns.items())


def jobs_with_names(jobs: str = "{schema}._private_jobs") -> str:
    """Return the from clause for `job_columns`, as SQL: rows of jobs with the names of tasks and queues.

    The joins are outer joins: a job whose task or queue somebody deleted is a job, too.
    """
    return f"""{jobs} as jobs
    left join {{schema}}._private_tasks as tasks on tasks.id = jobs.task_id
    left join {{schema}}._private_job_queues as queues on queues.id = jobs.job_queue_id"""


def job_from_row(row: Row) -> Job:
    """Return the job in a row that begins with `job_columns`."""
    return make_job(tuple(row.values())[: len(_COLUMNS)], row["task"], row["locked_by"])


_TASK = list(_COLUMNS).index("task")
_BEST_FIRST = itemgetter(*map(list(_COLUMNS).index, ("priority", "run_at", "id")))


def claimed_jobs(rows: Sequence[Any], worker_id: str, identifiers: Sequence[str]) -> list[Job]:
    """Return the claimed jobs, best first.

    Each row has the position of the job's task in `identifiers`, from 1. A row of asyncpg is a sequence, too.
    """
    return [make_job(row, identifiers[row[_TASK] - 1], worker_id) for row in sorted(rows, key=_BEST_FIRST)]


def make_job(values: Sequence[Any], task_identifier: str, locked_by: str | None) -> Job:
    """Return the job with the values of `job_columns`, except the task and the holder of the lock.

    This runs once for each job, so it fills in a draft.
    """
    job = JobDraft()
    (
        job.id, _, job.payload_json, job.queue_name, job.priority, job.attempts, job.max_attempts,
        job.last_error, job.key, job.revision, flags, run_at, created_at, updated_at, locked_at, _,
    ) = values  # fmt: skip
    job._seconds = (run_at, created_at, updated_at, locked_at)  # noqa: SLF001  # the draft is still private
    job.task_identifier = task_identifier
    job.flags = () if flags is None else flags_of(flags)
    job.locked_by = locked_by
    return finished(job)


def values_as_added(
    spec: JobSpec, flags: str | None, times: Sequence[float], *, key: str | None = None, revision: int = 0
) -> tuple[Any, ...]:
    """Return the values of `job_columns` after the payload, for jobs that were added with a spec.

    `flags` are a jsonb text; `times` are `run_at`, `created_at` and `updated_at`, in seconds since 1970.
    """
    priority = 0 if spec.priority is None else spec.priority
    max_attempts = DEFAULT_MAX_ATTEMPTS if spec.max_attempts is None else spec.max_attempts
    return (spec.queue_name, priority, 0, max_attempts, None, key, revision, flags, *times, None, None)


def job_as_added(job_id: int, identifier: str, payload_json: str, values: tuple[Any, ...]) -> Job:
    """Return the job with an id, a task, a payload and `values_as_added`."""
    return make_job((job_id, None, payload_json, *values), identifier, None)


def flags_of(text: str | None) -> tuple[str, ...]:
    """Return the flags in a jsonb text: those that PostgreSQL's `?` finds in it.

    Normally they are the keys of an object; in an array or a single value, which other programs may write,
    the strings count.
    """
    value = None if text is None else decode_if_readable(text)
    return tuple(
        flag for flag in (value if isinstance(value, (dict, list)) else [value]) if type(flag) is str
    )
