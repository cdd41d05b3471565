"""The page with the login form. Its caller gives the contents, and handles the answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from trio_graphile.admin._operations.refusals import Missing
from trio_graphile.admin._pages.rendering import static_url
from trio_graphile.admin._pages.serving import Pages, root_of, theme_of


async def login(pages: Pages, request: Request) -> Response:  # noqa: ASYNC124  # as all pages
    """Show the form in the state of the request."""
    form = getattr(request.state, "login", None)
    if form is None:
        raise Missing("Nobody has to log in here.")
    text = pages.environment.get_template("login.html").render(
        form=form, theme=theme_of(request), static=static_url(pages.files, root_of(request))
    )
    return HTMLResponse(text, form.status)
