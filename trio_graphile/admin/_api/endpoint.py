"""One thing that the API does."""

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
    """From the path; 0 where the path has none."""
    request: Request


@attrs.frozen
class Endpoint:
    """A method of a path: what it takes, what it answers, who may ask for it, and what serves it."""

    method: Literal["GET", "POST"]
    path: str
    """Below the admin's own; `{id}` is a job's id."""
    serve: Callable[[Asked], Awaitable[object]]
    """Returns an `answer`, or a response. Its docstring says what it does."""
    answer: type | tuple[str, ...] = attrs.field(kw_only=True)
    """The class of the answer, or the media types of what is no value of ours."""
    query: type | None = attrs.field(default=None, kw_only=True)
    body: type | None = attrs.field(default=None, kw_only=True)
    actions: tuple[Action, ...] = attrs.field(default=(), kw_only=True)
    """Whoever is allowed one of these may ask; none for reading. What serves it checks which one it is."""
    refusals: tuple[int, ...] = attrs.field(default=(), kw_only=True)
    """With which statuses it is refused, beside those that any request may meet."""
