"""The page for maintenance of the schema and of workers."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response

from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.serving import Pages


@attrs.frozen(kw_only=True)
class MaintenanceAction:
    """An action on the page, and its texts."""

    id: str
    """The id of its dialog."""
    needs: str
    """The action for which the user needs a permission."""
    title: str
    text: str
    what: str
    is_destructive: bool = True


ACTIONS = (
    MaintenanceAction(
        id="migrate",
        needs="migrate",
        title="Migrate",
        text="Brings the schema up to what this version knows. Look first which migrations there are.",
        what="The schema",
        is_destructive=False,
    ),
    MaintenanceAction(
        id="cleanup",
        needs="cleanup",
        title="Clean up",
        text="Deletes jobs that have failed for good, and tasks and queues that have no job.",
        what="What is not needed any more",
    ),
    MaintenanceAction(
        id="sweep",
        needs="sweep-stale-workers",
        title="Sweep",
        text="Gives back the jobs of workers that gave no sign of life. Look first who they are.",
        what="Workers that have been silent for too long",
    ),
    MaintenanceAction(
        id="unlock",
        needs="force-unlock",
        title="Unlock workers",
        text="Frees what is locked in the name of workers of which you know that they are gone.",
        what="What these workers hold",
    ),
    MaintenanceAction(
        id="remove",
        needs="remove",
        title="Remove by key",
        text="Removes the job that has a key; one that runs goes on, and is not tried again.",
        what="The job that has the key",
    ),
)


async def maintenance(pages: Pages, request: Request) -> Response:
    """Show the actions, and what is wrong."""
    parts = await read_parts(findings=pages.findings.get)
    return pages.respond(
        request,
        "maintenance",
        "maintenance.html",
        missing=parts.missing,
        actions=ACTIONS,
        findings=parts.values["findings"],
    )
