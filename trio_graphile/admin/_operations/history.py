"""The history of the queue: points of charts, made of samples."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from trio_graphile._database.inspection import now
from trio_graphile._database.samples import read_samples
from trio_graphile._model.samples import Sample, history, slowest
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import HistoryAnswer
from trio_graphile.admin._operations.requests import HistoryRequest


async def read_history(context: Context, request: HistoryRequest) -> HistoryAnswer:
    """Return the last hour or day, step by step."""
    at = await now(context.database)
    step = request.span.step
    # One step more, since the first is complete only with the sample before it.
    samples = await _samples(context, at - request.span.length - step)
    return HistoryAnswer(
        step=step.total_seconds(),
        points=[*history(samples, request.span, at)],
        slowest=[*slowest(samples)],
    )


async def _samples(context: Context, since: datetime) -> Sequence[Sample]:
    """Return the samples of the database, or those in memory if none can be written: on a standby, say."""
    written = await read_samples(context.database, since)
    remembered = () if context.looks is None else context.looks.points.samples
    return written or [sample for sample in remembered if sample.at >= since]
