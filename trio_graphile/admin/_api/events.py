"""The stream of changes, as a response."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._live.streams import stream_events


class EventsResponse(Response):
    """A response that goes on until the client leaves, loses access, or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, looks: Looks) -> None:
        super().__init__()
        self._looks = looks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events; for HEAD only the headers."""
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
        else:
            await stream_events(self._looks, scope, receive, send)
