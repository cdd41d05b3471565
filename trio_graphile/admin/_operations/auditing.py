"""Logs a line for each change: user, action, jobs, and outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from trio_graphile.admin._context import Context
from trio_graphile.admin._options import Access, Action


@attrs.define
class Trace:
    """The facts about a change, which are collected during it."""

    ids: Sequence[int] = ()
    outcome: dict[str, Any] = attrs.field(factory=dict)


@contextmanager
def audited(context: Context, access: Access, action: Action) -> Iterator[Trace]:
    """Write the line at the end of the body, even if it fails; the body fills in the outcome."""
    trace = Trace()
    try:
        yield trace
    except BaseException as error:
        context.audit.record(access.user, action, trace.ids, {"failed": type(error).__name__})
        raise
    context.audit.record(access.user, action, trace.ids, trace.outcome)
