"""Adds a job as a program would: its payload is checked against the type of its task, if that is known."""

from __future__ import annotations

from trio_graphile._database.connection import Executor
from trio_graphile._database.search.find import find_jobs
from trio_graphile._exceptions import PayloadInvalid
from trio_graphile._job_client import JobClient
from trio_graphile._model.jobs import Job, JobKeyMode, JobSpec
from trio_graphile._model.json import encode
from trio_graphile._model.listing import FoundJob, JobSearch
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import AddedAnswer
from trio_graphile.admin._operations.auditing import audited
from trio_graphile.admin._operations.payloads import changed_for
from trio_graphile.admin._operations.requests import AddRequest
from trio_graphile.admin._options import Access, Action


async def add_job(context: Context, access: Access, request: AddRequest) -> AddedAnswer:
    """Add a job, or change the job under its key as the mode says. Raises what `Client.add_job` does."""
    with audited(context, access, Action.ADD) as trace:
        async with context.client.database.transaction() as connection:
            job = await _add(context.client.using(connection), context.client.tasks, request)
            seen = await _look_at(connection, job.id)
        trace.ids = (job.id,)
    message = f"added job {job.id} of task {job.task_identifier}"
    return AddedAnswer(message=message, jobs=[changed_for(context, job, seen)])


async def _add(client: JobClient, tasks: object, request: AddRequest) -> Job:
    spec = JobSpec(
        queue_name=request.queue or None,
        run_at=request.run_at,
        max_attempts=request.max_attempts,
        job_key=request.key,
        job_key_mode=JobKeyMode((request.job_key_mode or "replace").replace("-", "_")),
        priority=request.priority,
        flags=request.flags or None,
    )
    payload = {} if request.payload is None else request.payload
    if not isinstance(tasks, TaskRegistry) or request.identifier not in tasks:
        return await client.add_raw_job(request.identifier, payload, spec)
    task = tasks[request.identifier]
    if not task.wants_payload and payload != {}:
        raise PayloadInvalid(request.identifier, ["the task takes no payload @ $"])
    return await client.add_job(task, task.from_json(_text(request.identifier, payload)), spec)


def _text(identifier: str, payload: object) -> str:
    try:
        return encode(payload)
    except ValueError as error:
        raise PayloadInvalid(identifier, [str(error)]) from None


async def _look_at(executor: Executor, job_id: int) -> FoundJob | None:
    page = await find_jobs(executor, JobSearch(ids=(job_id,), limit=1), None)
    return page.jobs[0] if page.jobs else None
