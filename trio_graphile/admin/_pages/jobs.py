"""The pages about jobs: the list, one job, and the form that adds one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from trio_graphile._database.search.suggest import suggest_queues, suggest_tasks
from trio_graphile._model.inspection import JobState
from trio_graphile._model.listing import JobOrder
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import JobAnswer, JobsAnswer, WorkersAnswer
from trio_graphile.admin._operations.jobs import list_jobs, show_job, show_payload
from trio_graphile.admin._operations.reading import read_query, read_value
from trio_graphile.admin._operations.refusals import Malformed, Missing, Unavailable
from trio_graphile.admin._operations.requests import (
    Conditions,
    JobId,
    JobsRequest,
    Name,
    PageSize,
)
from trio_graphile.admin._operations.workers import list_workers
from trio_graphile.admin._pages.heartbeats import running_rows
from trio_graphile.admin._pages.links import link
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.serving import Pages, root_of

ORDERS = (
    (JobOrder.NEWEST, "Newest first"),
    (JobOrder.OLDEST, "Oldest first"),
    (JobOrder.NEXT_RUN, "Next to run"),
    (JobOrder.LATEST_FAILURE, "Latest failure first"),
)
_CAPTIONS = {
    JobOrder.NEWEST: "the newest first",
    JobOrder.OLDEST: "the oldest first",
    JobOrder.NEXT_RUN: "in the order in which they run; only those that can",
    JobOrder.LATEST_FAILURE: "the latest failure first; only those that have no attempt left",
}
_STATES_OF = {
    JobOrder.NEXT_RUN: (JobState.READY, JobState.SCHEDULED),
    JobOrder.LATEST_FAILURE: (JobState.FAILED,),
}
"""The states that an order shows; changes of all that match must keep to them."""
ACTIONS = (
    ("run-now", "Run now", False),
    ("reschedule", "Reschedule", False),
    ("cancel", "Cancel", True),
    ("fail", "Fail", True),
    ("complete", "Complete", True),
)
_MOST_SUGGESTED_NAMES = 50
_MOST_SHOWN_CHARACTERS = 262_144  # of a payload
_MOST_FILLED_IN_CHARACTERS = 1_048_576  # of a payload


@attrs.frozen(kw_only=True)
class JobsPageRequest(JobsRequest):
    """A request for a page of jobs; its defaults differ from those of the API."""

    order: JobOrder = JobOrder.NEWEST
    limit: PageSize = 50


@attrs.frozen(kw_only=True)
class Condition:
    """A condition of the list, and the address of the list without it."""

    name: str
    value: str
    without: str


def conditions_of(asked: Conditions) -> dict[str, Any]:
    """Return the conditions of a request, without empty ones."""
    return {
        field.name: value
        for field in attrs.fields(Conditions)
        if (value := getattr(asked, field.name)) not in (None, "", [])
    }


def filter_of(asked: JobsPageRequest, until_id: int) -> dict[str, Any]:
    """Return the API's filter for all jobs that match, up to the newest one."""
    given = conditions_of(asked)
    shown = [state.value for state in _STATES_OF.get(asked.order, ())]
    if shown:
        wanted = given.get("state") or shown
        given["state"] = [state for state in shown if state in wanted or "all" in wanted] or shown
    return given | {"until_id": min(until_id, asked.until_id or until_id)}


def list_conditions(root: str, asked: JobsPageRequest) -> list[Condition]:
    """Return each condition, with the address of the list without it."""
    given = conditions_of(asked)
    rest = {"order": asked.order, "limit": asked.limit}
    found = []
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            left = {
                **given,
                name: [one for one in values if one != value] if isinstance(values, list) else None,
            }
            without = link(root, "jobs", **left, **rest)
            found.append(Condition(name=_NAMES.get(name, name), value=str(value), without=without))
    return found


_NAMES = {
    "identifier": "task",
    "locked_by": "held by",
    "search": "contains",
    "until_id": "up to id",
    "error": "error",
}


async def jobs(pages: Pages, request: Request) -> Response:
    """Show the jobs that match."""
    asked = read_query(request.scope["query_string"], JobsPageRequest)
    context = pages.context
    parts = await read_parts(
        jobs=partial(list_jobs, context, asked),
        newest_job=partial(_newest_id, context),
        suggestions=partial(_suggestions, context),
    )
    found: JobsAnswer | None = parts.values["jobs"]
    until_id: int | None = parts.values["newest_job"]
    tasks, queues = parts.values["suggestions"] or ((), ())
    root = root_of(request)
    return pages.respond(
        request,
        "jobs",
        "jobs.html",
        missing=parts.missing,
        asked=asked,
        found=found,
        until_id=until_id,
        filter=filter_of(asked, until_id) if until_id else {},
        is_whole=found is not None and not asked.after and found.next is None,
        conditions=list_conditions(root, asked),
        several=[
            (name, values)
            for name in ("identifier", "queue", "flag")
            if len(values := getattr(asked, name)) > 1
        ],
        orders=ORDERS,
        caption=_CAPTIONS[asked.order],
        bulk=ACTIONS,
        tasks=tasks,
        queues=queues,
        **addresses_of(root, asked, found),
    )


def addresses_of(root: str, asked: JobsPageRequest, found: JobsAnswer | None) -> dict[str, Any]:
    """Return the addresses of the pages before and after, and of the file of all jobs that match."""
    base = conditions_of(asked) | {"order": asked.order, "limit": asked.limit}
    onward, backward = (None, None) if found is None else (found.next, found.previous)
    return {
        "first_url": link(root, "jobs", **base) if asked.after else None,
        "next_url": None if onward is None else link(root, "jobs", **base, after=onward),
        "previous_url": None if backward is None else link(root, "jobs", **base, after=backward),
        "export_url": lambda format_: link(
            root, "api/jobs/export", **conditions_of(asked), order=asked.order, format=format_
        ),
    }


async def _newest_id(context: Context) -> int | None:
    newest = await list_jobs(context, JobsRequest(order=JobOrder.NEWEST, limit=1))
    return newest.jobs[0].id if newest.jobs else None


async def _suggestions(context: Context) -> tuple[Sequence[str], Sequence[str]]:
    tasks = await suggest_tasks(context.database, "", _MOST_SUGGESTED_NAMES)
    return tasks, await suggest_queues(context.database, "", _MOST_SUGGESTED_NAMES)


@attrs.frozen(kw_only=True)
class SuggestionsRequest:
    """A request for names."""

    of: str = "task"
    prefix: Name = ""


async def suggestions(pages: Pages, request: Request) -> Response:
    """Return names with a prefix, for a field of a form."""
    asked = read_query(request.scope["query_string"], SuggestionsRequest)
    suggest = suggest_queues if asked.of == "queue" else suggest_tasks
    names: Iterable[str] = await suggest(pages.context.database, asked.prefix, _MOST_SUGGESTED_NAMES)
    return HTMLResponse(pages.environment.get_template("suggestions.html").render(names=names))


def _job_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise Missing(f"there is no page {text[:40]!a}, and no job has such an id")
    return read_value(int(text), JobId)


async def job(pages: Pages, request: Request) -> Response:
    """Show one job."""
    job_id = _job_id(request.path_params["id"])
    context = pages.context
    parts = await read_parts(
        job=partial(show_job, context, job_id),
        payload=partial(show_payload, context, job_id),
        workers=partial(list_workers, context),
    )
    shown: JobAnswer | None = parts.values["job"]
    if shown is None:
        raise Unavailable("The job could not be read in time: try again.")
    payload = parts.values["payload"]
    return pages.respond(
        request,
        "jobs",
        "job.html",
        missing=parts.missing,
        job=shown,
        payload=None if payload is None else payload.text,
        progress=_progress(job_id, parts.values["workers"]),
        actions=ACTIONS,
        most_shown=_MOST_SHOWN_CHARACTERS,
    )


def _progress(job_id: int, workers: WorkersAnswer | None) -> str | None:
    """Return what the handler of the job reported last, by its worker's last heartbeat."""
    running = running_rows([] if workers is None else workers.active_workers)
    return next((row.progress for row in running if row.id == job_id and row.progress), None)


@attrs.frozen(kw_only=True)
class AddPageRequest:
    """The contents of the form."""

    identifier: Name | None = None
    like: JobId | None = None
    """The id of a job with whose values the form is filled in."""


async def add(pages: Pages, request: Request) -> Response:
    """Show the form that adds a job, perhaps filled in with the values of another job."""
    asked = read_query(request.scope["query_string"], AddPageRequest)
    context = pages.context
    like, payload = None, "{}"
    if asked.like is not None:
        like = await show_job(context, asked.like)
        payload = (await show_payload(context, asked.like)).text
        if len(payload) > _MOST_FILLED_IN_CHARACTERS:
            raise Malformed("The payload of this job is too large for a form.")
    tasks, queues = await _suggestions(context)
    return pages.respond(
        request,
        "jobs",
        "add.html",
        asked=asked,
        like=like,
        payload_text=payload,
        tasks=tasks,
        queues=queues,
    )
