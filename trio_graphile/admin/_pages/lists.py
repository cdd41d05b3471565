"""The pages of failures, tasks and queues."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from trio_graphile._model.listing import JobOrder
from trio_graphile.admin._operations.answers import WorkersAnswer
from trio_graphile.admin._operations.jobs import list_jobs
from trio_graphile.admin._operations.limits import Items
from trio_graphile.admin._operations.looking import list_failures, list_queues, list_tasks
from trio_graphile.admin._operations.reading import read_query
from trio_graphile.admin._operations.requests import (
    FailuresRequest,
    JobsRequest,
    PageSize,
    SearchRequest,
    Text,
)
from trio_graphile.admin._operations.workers import list_workers
from trio_graphile.admin._pages.links import Place, link
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.serving import Pages, root_of


@attrs.frozen(kw_only=True)
class ListPageRequest(SearchRequest):
    """A request for a page of a list by name, with the cursors of the pages before."""

    limit: PageSize = 50
    back: Annotated[list[Text], Items(50)] = attrs.field(factory=list)
    """The `after` of each page that led here."""


async def failures(pages: Pages, request: Request) -> Response:
    """Show failed jobs, grouped by their errors."""
    asked = read_query(request.scope["query_string"], FailuresRequest)
    context = pages.context
    newest = JobsRequest(order=JobOrder.NEWEST, limit=1)
    parts = await read_parts(
        failures=partial(list_failures, context, asked), newest_job=partial(list_jobs, context, newest)
    )
    jobs = parts.values["newest_job"].jobs if parts.values["newest_job"] else ()
    return pages.respond(
        request,
        "failures",
        "failures.html",
        missing=parts.missing,
        asked=asked,
        found=parts.values["failures"],
        until_id=jobs[0].id if jobs else None,
    )


async def tasks(pages: Pages, request: Request) -> Response:
    """Show the tasks that the database knows."""
    asked = read_query(request.scope["query_string"], ListPageRequest)
    parts = await read_parts(tasks=partial(list_tasks, pages.context, asked))
    found = parts.values["tasks"]
    return pages.respond(
        request,
        "tasks",
        "tasks.html",
        missing=parts.missing,
        asked=asked,
        found=found,
        knows_tasks=pages.context.client.tasks is not None,
        **addresses_of(root_of(request), "tasks", asked, found),
    )


async def queues(pages: Pages, request: Request) -> Response:
    """Show the named queues."""
    asked = read_query(request.scope["query_string"], ListPageRequest)
    parts = await read_parts(
        queues=partial(list_queues, pages.context, asked), workers=partial(list_workers, pages.context)
    )
    found = parts.values["queues"]
    return pages.respond(
        request,
        "queues",
        "queues.html",
        missing=parts.missing,
        asked=asked,
        found=found,
        liveness=liveness_of(parts.values["workers"]),
        **addresses_of(root_of(request), "queues", asked, found),
    )


def addresses_of(root: str, path: str, asked: ListPageRequest, found: Any) -> dict[str, str | None]:
    """Return the addresses of the pages before and after."""
    base = {"search": asked.search, "limit": asked.limit}
    place = Place(after=asked.after, back=asked.back, next=None if found is None else found.next)
    onward, backward = place.onward(), place.backward()
    return {
        "next_url": None if onward is None else link(root, path, **base, **onward),
        "previous_url": None if backward is None else link(root, path, **base, **backward),
    }


def liveness_of(workers: WorkersAnswer | None) -> Callable[[str], str]:
    """Return a function that says whether a worker sends heartbeats."""
    known = {} if workers is None else {one.worker_id: one.is_stale for one in workers.active_workers}
    words = {True: "stale", False: "alive", None: "not registered"}
    return lambda worker_id: words[known.get(worker_id)]
