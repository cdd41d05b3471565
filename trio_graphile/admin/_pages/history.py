"""The charts of the overview, made from samples."""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._model.samples import HistoryPoint, Span
from trio_graphile.admin._pages.charts import Chart, Series, line_chart

_HEIGHT_PIXELS = 180.0
_PER = {Span.HOUR: "a minute", Span.DAY: "a quarter of an hour"}


def charts_of(points: Sequence[HistoryPoint], span: Span) -> tuple[Chart, ...]:
    """Return charts of throughput, failures, waits and backlog; none before the first sample."""
    if not any(point.ready is not None or point.added is not None for point in points):
        return ()
    per = _PER[span]
    return (
        _chart(points, f"Throughput, jobs {per}", "", {"added": "Added", "gone": "Done or removed"}),
        _chart(points, f"Failures {per}", "", {"failures": "Failed attempts"}),
        _chart(points, "Time of a run", "s", {"wait": "Waited, in the mean", "run": "Ran, in the mean"}),
        _chart(points, "Backlog", "", {"ready": "Ready", "locked": "Running", "failed": "Failed"}),
    )


def _chart(points: Sequence[HistoryPoint], title: str, unit: str, names: dict[str, str]) -> Chart:
    return line_chart(
        title=title,
        unit=unit,
        times=[point.at for point in points],
        series=[
            Series(name=text, values=[getattr(point, name) for point in points])
            for name, text in names.items()
        ],
        height=_HEIGHT_PIXELS,
    )
