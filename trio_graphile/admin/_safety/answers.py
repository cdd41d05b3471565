"""Answers that need no page: refusals, redirects, and the one hop of who comes from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from trio_graphile.admin._safety.incoming import Incoming

_HOP = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>Jobs</title>
<p><a href="">Go on</a></p>
</html>
"""


def refuse(incoming: Incoming, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer that something is not served: in JSON, or as a text to somebody who wants to see a page."""
    if incoming.is_visit:
        return PlainTextResponse(f"{text}\n", status, headers)
    return JSONResponse({"error": text}, status, headers)


def refuse_for_now(incoming: Incoming, seconds: float) -> Response:
    """Answer that a secret was guessed too often."""
    wait = math.ceil(seconds)
    text = f"too many wrong secrets: try again in {wait} s"
    return refuse(incoming, 429, text, {"retry-after": str(wait)})


def redirect(place: str) -> Response:
    """Send somebody elsewhere, to read there."""
    return Response(status_code=303, headers={"location": place})


def hop() -> Response:
    """Have a browser ask once more, by a request of our own page: that one has our cookie."""
    return HTMLResponse(_HOP)
