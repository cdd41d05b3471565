"""Answers without a page: refusals, redirects, and the hop for readers from other sites."""

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
    """Refuse a request: in JSON, or as text for readers of pages."""
    if incoming.is_visit:
        return PlainTextResponse(f"{text}\n", status, headers)
    return JSONResponse({"error": text}, status, headers)


def refuse_for_now(incoming: Incoming, seconds: float) -> Response:
    """Refuse a request because a secret was guessed too often."""
    wait = math.ceil(seconds)
    text = f"too many wrong secrets: try again in {wait} s"
    return refuse(incoming, 429, text, {"retry-after": str(wait)})


def redirect(place: str) -> Response:
    """Redirect a browser to another page."""
    return Response(status_code=303, headers={"location": place})


def hop() -> Response:
    """Have the browser ask again from a page of ours: that request has our cookie."""
    return HTMLResponse(_HOP)
