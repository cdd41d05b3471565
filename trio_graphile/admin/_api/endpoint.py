"""An endpoint of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import attrs
from starlette.requests import Request

from trio_graphile.admin._context import Context
from trio_graphile.admin._options import Access, Action


@attrs.frozen(kw_only=True)
class Asked:
    """One request, after all checks."""

    context: Context
    access: Access
    given: Any
    """The query or the body, as the class that the endpoint names."""
    job_id: int
    """The id in the path; 0 if the path has none."""
    request: Request


@attrs.frozen
class Endpoint:
    """A method of a path: its parameters, its answer, its permissions, and the function that serves it."""

    method: Literal["GET", "POST"]
    path: str
    """The path below that of the admin; `{id}` is the id of a job."""
    serve: Callable[[Asked], Awaitable[object]]
    """Returns an `answer`, or a response. Its docstring describes the endpoint."""
    answer: type | tuple[str, ...] = attrs.field(kw_only=True)
    """The class of the answer, or the media types of other answers."""
    query: type | None = attrs.field(default=None, kw_only=True)
    body: type | None = attrs.field(default=None, kw_only=True)
    actions: tuple[Action, ...] = attrs.field(default=(), kw_only=True)
    """Users with one of these permissions may call it; none means reading. `serve` checks which action it
    is."""
    refusals: tuple[int, ...] = attrs.field(default=(), kw_only=True)
    """The statuses of its refusals, besides those of every request."""
