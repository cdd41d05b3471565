"""What a worker says of itself with each heartbeat: JSON, whatever its handlers report. No I/O."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

from trio_graphile._model.json import encode
from trio_graphile._model.options import Flags, WorkerOptions
from trio_graphile._worker.running import RunningJob

_MOST_RUNNING = 100
_MOST_PROGRESS = 200


def describe_worker(options: WorkerOptions, tasks: Iterable[str]) -> dict[str, object]:
    """Return what a worker is, and by which rules it takes jobs, but for those that a function decides."""
    said: dict[str, object] = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "version": _version(),
        "concurrency": options.concurrency,
        "tasks": list(tasks),
    }
    rules: dict[str, Flags | None] = {
        "forbidden_flags": options.forbidden_flags,
        "accepted_flags": options.accepted_flags,
        "allowed_flags": options.allowed_flags,
    }
    said.update((name, list(flags)) for name, flags in rules.items() if _is_list(flags))  # type: ignore[arg-type]
    if options.recovery is not None:
        said["sweep_threshold"] = options.recovery.sweep_threshold
    return said


def _is_list(flags: Flags | None) -> bool:
    return flags is not None and not callable(flags)


def describe_running(running: Iterable[RunningJob], now: float) -> list[dict[str, object]]:
    """Return which jobs run, the oldest first and no more than 100; `now` is by the clock of their starts."""
    return [
        {
            "id": one.job.id,
            "task_identifier": one.job.task_identifier,
            "seconds": round(now - one.started_at, 3),
            "progress": _progress_text(one.progress),
        }
        for one in islice(running, _MOST_RUNNING)
    ]


def _progress_text(progress: object) -> str | None:
    """Return the beginning of a report as JSON; None for what JSON cannot hold, and if there is none.

    A handler reports anything, and may change it while we look, from another thread.
    """
    if progress is None:
        return None
    try:
        return encode(progress)[:_MOST_PROGRESS]
    except (ValueError, TypeError, RuntimeError):
        return None


@functools.cache
def _version() -> str:
    try:
        return f"trio_graphile {version('trio-graphile')}"
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "trio_graphile"
