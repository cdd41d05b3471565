"""The page with the queue at a glance."""

from __future__ import annotations

from functools import partial
from typing import Literal

import attrs
from starlette.requests import Request
from starlette.responses import Response

from trio_graphile._model.listing import StateCounts
from trio_graphile._model.samples import Span
from trio_graphile.admin._operations.answers import HistoryAnswer, OverviewAnswer, StatsAnswer
from trio_graphile.admin._operations.history import read_history
from trio_graphile.admin._operations.looking import list_failures, look_over
from trio_graphile.admin._operations.reading import read_query
from trio_graphile.admin._operations.requests import FailuresRequest, HistoryRequest
from trio_graphile.admin._pages.history import charts_of
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.serving import Pages

COUNTERS = (
    ("total", "All jobs", "newest"),
    ("ready", "Ready", "next-run"),
    ("scheduled", "Scheduled", "next-run"),
    ("locked", "Running", "newest"),
    ("failed", "Failed", "latest-failure"),
)
SPANS = ((Span.HOUR, "Last hour"), (Span.DAY, "Last day"))
_FIRST_FAILURES = 5


@attrs.frozen(kw_only=True)
class OverviewPageRequest(HistoryRequest):
    """A request: how far back the charts go, and whether to count exactly."""

    exact: Literal["true"] | None = None


async def overview(pages: Pages, request: Request) -> Response:
    """Show the queue at a glance."""
    asked = read_query(request.scope["query_string"], OverviewPageRequest)
    context = pages.context
    parts = await read_parts(
        overview=partial(look_over, context),
        failures=partial(list_failures, context, FailuresRequest(limit=_FIRST_FAILURES)),
        findings=pages.findings.get,
        history=partial(read_history, context, HistoryRequest(span=asked.span)),
        **({"exact_counts": pages.exact_counts.get} if asked.exact else {}),
    )
    seen: OverviewAnswer | None = parts.values["overview"]
    history: HistoryAnswer | None = parts.values["history"]
    exact = pages.exact_counts.young
    return pages.respond(
        request,
        "",
        "overview.html",
        missing=parts.missing,
        asked=asked,
        overview=seen if seen is None or exact is None else with_counts(seen, exact),
        failures=parts.values["failures"],
        findings=parts.values["findings"],
        charts=() if history is None else charts_of(history.points, asked.span),
        slowest=() if history is None else history.slowest,
        counters=COUNTERS,
        spans=SPANS,
    )


def with_counts(seen: OverviewAnswer, exact: StateCounts) -> OverviewAnswer:
    """Return the queue at a glance, with exact counts that were made a while ago."""
    counts = {name: getattr(exact, name).value for name, _, _ in COUNTERS}
    return attrs.evolve(
        seen,
        stats=StatsAnswer(**counts),
        estimated=[],
        counted_at=exact.counted_at,
        oldest_ready_at=exact.oldest_ready_at,
    )
