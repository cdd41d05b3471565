"""All that the API does."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import JSONResponse, Response

from trio_graphile.admin._api.endpoint import Asked, Endpoint
from trio_graphile.admin._api.events import EventsResponse
from trio_graphile.admin._api.exporting import respond_with_file
from trio_graphile.admin._api.openapi import document_of, security_of
from trio_graphile.admin._operations import (
    adding,
    answers,
    changing,
    findings,
    history,
    jobs,
    looking,
    maintenance,
    recurring,
    requests,
    workers,
)
from trio_graphile.admin._operations.refusals import Unavailable
from trio_graphile.admin._operations.session import describe_session
from trio_graphile.admin._options import Action


async def get_session(asked: Asked) -> answers.SessionAnswer:  # noqa: ASYNC124  # as all are
    """Return the user, and what they may do."""
    return describe_session(asked.context, asked.access, asked.request.scope["state"].get("csrf_token"))


async def get_overview(asked: Asked) -> answers.OverviewAnswer:
    """Show the queue at a glance."""
    return await looking.look_over(asked.context)


async def list_jobs(asked: Asked) -> answers.JobsAnswer:
    """List jobs: some conditions, one order, a page at a time."""
    return await jobs.list_jobs(asked.context, asked.given)


async def add_job(asked: Asked) -> answers.AddedAnswer:
    """Add a job."""
    return await adding.add_job(asked.context, asked.access, asked.given)


async def get_job(asked: Asked) -> answers.JobAnswer:
    """Show a job, why it does not run, and what is still to come."""
    return await jobs.show_job(asked.context, asked.job_id)


async def get_payload(asked: Asked) -> Response:
    """Return a job's payload as it is stored."""
    payload = await jobs.show_payload(asked.context, asked.job_id)
    return Response(payload.text, media_type="application/json")


async def export_jobs(asked: Asked) -> Response:
    """Return up to 10,000 jobs as a file."""
    request: requests.ExportRequest = asked.given
    return await respond_with_file(jobs.Export(asked.context, request), request.format)


async def act_on_jobs(asked: Asked) -> answers.ChangeAnswer:
    """Complete, fail, run now, reschedule or cancel jobs."""
    return await changing.act_on_jobs(asked.context, asked.access, asked.given)


async def remove_by_key(asked: Asked) -> answers.RemovedAnswer:
    """Remove the job under a key."""
    return await changing.remove_by_key(asked.context, asked.access, asked.given)


async def maintain(asked: Asked) -> answers.MaintenanceAnswer:
    """Migrate the schema, clean up, unlock or sweep."""
    return await maintenance.maintain(asked.context, asked.access, asked.given)


async def list_tasks(asked: Asked) -> answers.TasksAnswer:
    """List the tasks that the database knows, by identifier."""
    return await looking.list_tasks(asked.context, asked.given)


async def list_queues(asked: Asked) -> answers.QueuesAnswer:
    """List the named queues, by name."""
    return await looking.list_queues(asked.context, asked.given)


async def list_workers(asked: Asked) -> answers.WorkersAnswer:
    """List the registered workers, and the other holders of locks."""
    return await workers.list_workers(asked.context)


async def list_crontabs(asked: Asked) -> answers.CrontabsAnswer:
    """List the entries of crontabs, with what is due next and what was missed."""
    return await recurring.list_crontabs(asked.context)


async def list_findings(asked: Asked) -> answers.FindingsAnswer:
    """Say what is wrong, as `trio-graphile doctor` does."""
    return await findings.look_for_findings(asked.context)


async def list_failures(asked: Asked) -> answers.FailuresAnswer:
    """Group failed jobs by their errors."""
    return await looking.list_failures(asked.context, asked.given)


async def watch(asked: Asked) -> Response:  # noqa: ASYNC124  # as all are
    """Send changes as server-sent events: `overview`, `changed` and, at the end, `bye`."""
    if asked.context.looks is None:
        raise Unavailable("nothing is watched here")
    return EventsResponse(asked.context.looks)


async def get_history(asked: Asked) -> answers.HistoryAnswer:
    """Show the history of the queue in the last hour or day."""
    return await history.read_history(asked.context, asked.given)


async def get_openapi(asked: Asked) -> Response:  # noqa: ASYNC124  # as all are
    """Return this document."""
    prefix = quote(asked.request.scope.get("root_path", ""))
    security = security_of(asked.context.options)
    return JSONResponse(document_of(ENDPOINTS, prefix=prefix, security=security))


_ACTIONS = (Action.COMPLETE, Action.FAIL, Action.RUN_NOW, Action.RESCHEDULE, Action.CANCEL)
_MAINTENANCE = (Action.MIGRATE, Action.CLEANUP, Action.FORCE_UNLOCK, Action.SWEEP)

ENDPOINTS = (
    Endpoint("GET", "/api/session", get_session, answer=answers.SessionAnswer),
    Endpoint("GET", "/api/overview", get_overview, answer=answers.OverviewAnswer),
    Endpoint("GET", "/api/jobs", list_jobs, query=requests.JobsRequest, answer=answers.JobsAnswer),
    Endpoint(
        "POST",
        "/api/jobs",
        add_job,
        body=requests.AddRequest,
        answer=answers.AddedAnswer,
        actions=(Action.ADD,),
        refusals=(409,),
    ),
    Endpoint(
        "GET",
        "/api/jobs/export",
        export_jobs,
        query=requests.ExportRequest,
        answer=("text/csv", "application/json"),
    ),
    Endpoint(
        "POST",
        "/api/jobs/action",
        act_on_jobs,
        body=requests.ActionRequest,
        answer=answers.ChangeAnswer,
        actions=_ACTIONS,
    ),
    Endpoint(
        "POST",
        "/api/jobs/remove-by-key",
        remove_by_key,
        body=requests.RemoveRequest,
        answer=answers.RemovedAnswer,
        actions=(Action.REMOVE,),
    ),
    Endpoint("GET", "/api/jobs/{id}", get_job, answer=answers.JobAnswer, refusals=(404,)),
    Endpoint("GET", "/api/jobs/{id}/payload", get_payload, answer=("application/json",), refusals=(404,)),
    Endpoint(
        "POST",
        "/api/maintenance",
        maintain,
        body=requests.MaintenanceRequest,
        answer=answers.MaintenanceAnswer,
        actions=_MAINTENANCE,
    ),
    Endpoint("GET", "/api/tasks", list_tasks, query=requests.PageRequest, answer=answers.TasksAnswer),
    Endpoint("GET", "/api/queues", list_queues, query=requests.SearchRequest, answer=answers.QueuesAnswer),
    Endpoint("GET", "/api/workers", list_workers, answer=answers.WorkersAnswer),
    Endpoint(
        "GET", "/api/failures", list_failures, query=requests.FailuresRequest, answer=answers.FailuresAnswer
    ),
    Endpoint("GET", "/api/crontabs", list_crontabs, answer=answers.CrontabsAnswer),
    Endpoint("GET", "/api/findings", list_findings, answer=answers.FindingsAnswer),
    Endpoint("GET", "/api/history", get_history, query=requests.HistoryRequest, answer=answers.HistoryAnswer),
    Endpoint("GET", "/api/events", watch, answer=("text/event-stream",)),
    Endpoint("GET", "/api/openapi.json", get_openapi, answer=("application/json",)),
)
