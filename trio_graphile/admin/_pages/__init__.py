"""The admin's pages: HTML from templates, readable without a script."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trio_graphile._database.summaries.counts import count_exactly
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.findings import look_for_findings
from trio_graphile.admin._pages import jobs, lists, login, maintenance, overview, recurring, workers
from trio_graphile.admin._pages.recent import Recent
from trio_graphile.admin._pages.rendering import make_environment
from trio_graphile.admin._pages.serving import Pages, served
from trio_graphile.admin._pages.static_files import load_static_files, static_response

_REFRESH_INTERVAL = 60.0  # for what takes long to find out

_PAGES = {
    "/": overview.overview,
    "/jobs": jobs.jobs,
    "/jobs/add": jobs.add,
    "/jobs/suggestions": jobs.suggestions,
    "/jobs/{id}": jobs.job,
    "/failures": lists.failures,
    "/tasks": lists.tasks,
    "/queues": lists.queues,
    "/workers": workers.workers,
    "/recurring": recurring.recurring,
    "/maintenance": maintenance.maintenance,
    "/login": login.login,
}


def routes(context: Context) -> list[BaseRoute]:
    """Return a route for each page, and one for the files beside them."""
    files = load_static_files()
    pages = Pages(
        context=context,
        environment=make_environment(),
        files=files,
        findings=Recent(partial(look_for_findings, context), _REFRESH_INTERVAL),
        exact_counts=Recent(partial(count_exactly, context.client.database), _REFRESH_INTERVAL),
    )

    async def static(request: Request) -> Response:  # noqa: ASYNC124  # a function that is not runs in a thread
        return static_response(files, request)

    return [
        *(Route(path, served(pages, page), methods=["GET"]) for path, page in _PAGES.items()),
        Route("/static/{name}", static, methods=["GET"]),
    ]
