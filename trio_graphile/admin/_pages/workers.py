"""The page of workers."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from trio_graphile.admin._operations.answers import WorkersAnswer
from trio_graphile.admin._operations.workers import list_workers
from trio_graphile.admin._pages.heartbeats import running_rows, worker_row
from trio_graphile.admin._pages.lists import liveness_of
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.serving import Pages


async def workers(pages: Pages, request: Request) -> Response:
    """Show workers, running jobs, and locks."""
    parts = await read_parts(workers=partial(list_workers, pages.context))
    found: WorkersAnswer | None = parts.values["workers"]
    registered = [] if found is None else found.active_workers
    return pages.respond(
        request,
        "workers",
        "workers.html",
        missing=parts.missing,
        found=found,
        workers=[worker_row(worker) for worker in registered],
        running=running_rows(registered),
        liveness=liveness_of(found),
    )
