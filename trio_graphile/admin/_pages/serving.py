"""The common part of all pages: the user, the frame, and the page that explains an error."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import attrs
from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from trio_graphile._exceptions import DatabaseError, OptionInvalid, SchemaError
from trio_graphile._model.listing import StateCounts
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import FindingsAnswer
from trio_graphile.admin._operations.refusals import Malformed, Refusal, Unavailable
from trio_graphile.admin._operations.session import CSRF_HEADER
from trio_graphile.admin._pages.recent import Recent
from trio_graphile.admin._pages.rendering import Frame, render, static_url
from trio_graphile.admin._pages.static_files import StaticFile

logger = logging.getLogger("trio_graphile.admin")

_THEMES = ("system", "light", "dark")


@attrs.frozen(kw_only=True)
class Pages:
    """The objects from which pages are made."""

    context: Context
    environment: Environment
    files: Mapping[str, StaticFile]
    findings: Recent[FindingsAnswer]
    """The findings, which are read at most once a minute: waiting for a notification may take seconds."""
    exact_counts: Recent[StateCounts]
    """Exact counts, only on demand, since they read the whole table."""

    def respond(self, request: Request, section: str, template: str, **values: Any) -> Response:
        """Answer with a page."""
        frame = frame_of(self.context, request, section)
        return HTMLResponse(render(self.environment, self.files, template, frame, values))

    def explain(self, request: Request, refusal: Refusal) -> Response:
        """Answer with a page that says why another one cannot be shown."""
        text = self.environment.get_template("problem.html").render(
            title=_TITLES.get(refusal.status, "Something went wrong"),
            text=refusal.text,
            root=root_of(request),
            theme=theme_of(request),
            static=static_url(self.files, root_of(request)),
        )
        return HTMLResponse(text, refusal.status)


_TITLES = {
    400: "This cannot be shown",
    403: "This is not allowed",
    404: "There is no such thing",
    503: "The database does not answer",
}

Page = Callable[[Pages, Request], Awaitable[Response]]


def served(pages: Pages, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """Return a function that answers a request with a page, or with one that says why not."""

    async def serve(request: Request) -> Response:
        try:
            return await page(pages, request)
        except Refusal as refusal:
            return pages.explain(request, refusal)
        except (OptionInvalid, DatabaseError, SchemaError) as error:
            return pages.explain(request, _refusal_of(error))

    return serve


def _refusal_of(error: Exception) -> Refusal:
    if isinstance(error, OptionInvalid):
        return Malformed(str(error))
    logger.warning("a page could not be read: %s", error)
    return Unavailable(str(error) if isinstance(error, SchemaError) else "Try again in a moment.")


def frame_of(context: Context, request: Request, section: str) -> Frame:
    """Return the frame of a page."""
    return Frame(
        root=root_of(request),
        section=section,
        theme=theme_of(request),
        schema=context.database.schema,
        access=request.state.access,
        csrf_header=CSRF_HEADER,
        csrf_token=getattr(request.state, "csrf_token", None),
        may_log_out=getattr(request.state, "may_log_out", False),
        now=datetime.now(UTC),  # only for "3 min ago": the database decides what is due
    )


def root_of(request: Request) -> str:
    """Return the prefix of all our paths."""
    root: str = request.scope.get("root_path", "")
    return quote(root.rstrip("/"))


def theme_of(request: Request) -> str:
    """Return the theme that the reader has chosen."""
    theme = request.cookies.get("theme", "")
    return theme if theme in _THEMES else _THEMES[0]
