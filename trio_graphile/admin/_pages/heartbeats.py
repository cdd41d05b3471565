"""Reports of workers. Any program may write them, so we rely on nothing in their form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._model.json import encode
from trio_graphile.admin._operations.answers import ActiveWorkerAnswer

_MOST_RUNNING_JOBS = 200
_MAX_PROGRESS_LENGTH = 200  # characters


@attrs.frozen(kw_only=True)
class WorkerRow:
    """A worker as its page shows it; unreported values are None or empty."""

    id: str
    place: str
    """The process, host and version of the worker."""
    last_heartbeat_at: datetime
    started_at: datetime
    is_stale: bool
    slots: int | None
    busy: int
    held: int
    completed: int | None
    failed: int | None
    tasks: Sequence[str]


@attrs.frozen(kw_only=True)
class RunningRow:
    """A job that a worker runs."""

    id: int
    task: str
    seconds: float
    progress: str
    worker_id: str


def worker_row(worker: ActiveWorkerAnswer) -> WorkerRow:
    """Return the report of a worker."""
    said = _mapping(worker.metadata)
    statistics = _mapping(said.get("statistics"))
    slots = _count(statistics.get("slots"))
    place = [
        part
        for part in (
            f"pid {said['pid']}" if _count(said.get("pid")) is not None else "",
            _text(said.get("host")),
            _text(said.get("version")),
        )
        if part
    ]
    return WorkerRow(
        id=worker.worker_id,
        place=", ".join(place),
        last_heartbeat_at=worker.last_heartbeat_at,
        started_at=worker.started_at,
        is_stale=worker.is_stale,
        slots=_count(said.get("concurrency")) if slots is None else slots,
        busy=_count(statistics.get("busy")) or 0,
        held=_count(statistics.get("held")) or 0,
        completed=_count(statistics.get("completed")),
        failed=_count(statistics.get("failed")),
        tasks=[name for name in _list(said.get("tasks")) if isinstance(name, str)],
    )


def running_rows(workers: Iterable[ActiveWorkerAnswer]) -> list[RunningRow]:
    """Return the jobs that live workers run, the longest running first."""
    rows = [
        RunningRow(
            id=id_,
            task=_text(one.get("task_identifier")),
            seconds=_number(one.get("seconds")),
            progress=progress_text(one.get("progress")),
            worker_id=worker.worker_id,
        )
        for worker in workers
        if not worker.is_stale
        for one in map(_mapping, _list(_mapping(_mapping(worker.metadata).get("statistics")).get("running")))
        if (id_ := _count(one.get("id"))) is not None
    ]
    return sorted(rows, key=lambda row: -row.seconds)[:_MOST_RUNNING_JOBS]


def progress_text(progress: Any) -> str:
    """Return the last report of a handler, as a line."""
    if progress is None:
        return ""
    text = progress if isinstance(progress, str) else encode(progress)
    return text[:_MAX_PROGRESS_LENGTH]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) and 0 <= value < 2**63 else 0.0
