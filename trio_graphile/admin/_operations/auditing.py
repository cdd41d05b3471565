"""Each change leaves a line: who, what, which jobs, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from trio_graphile.admin._context import Context
from trio_graphile.admin._options import Access, Action


@attrs.define
class Trace:
    """What is known of a change by and by."""

    ids: Sequence[int] = ()
    outcome: dict[str, Any] = attrs.field(factory=dict)


@contextmanager
def audited(context: Context, access: Access, action: Action) -> Iterator[Trace]:
    """Write the line once the body is through, also if it fails; the body says what came of it."""
    trace = Trace()
    try:
        yield trace
    except BaseException as error:
        context.audit.record(access.user, action, trace.ids, {"failed": type(error).__name__})
        raise
    context.audit.record(access.user, action, trace.ids, trace.outcome)
