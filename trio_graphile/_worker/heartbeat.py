"""The heartbeat: what a worker says of itself, as JSON. No I/O."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from itertools import islice

import attrs
import trio

from trio_graphile._model.json import decode, encode
from trio_graphile._model.options import Flags, WorkerOptions
from trio_graphile._model.statistics import WorkerPhase
from trio_graphile._model.version import installed_version
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.ending import Ending
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.runner import Runner
from trio_graphile._worker.running_job import RunningJob
from trio_graphile._worker.task_totals import TaskTotals

_MOST_RUNNING = 100
"""How many runs a heartbeat names at most."""
_MOST_PROGRESS = 200
"""How many characters of a progress report a heartbeat has at most."""


@attrs.frozen(eq=False, kw_only=True)
class Heartbeat:
    """Describes one run of a worker. Called from any thread: it reads each value in a single step."""

    _options: WorkerOptions
    _tasks: TaskRegistry
    _runner: Runner
    _recorder: Recorder
    _local_queue: LocalQueue
    _totals: TaskTotals
    _ending: Ending
    _why_no_lock: str | None
    """Why no lock will ever stand for the worker; None if one may."""
    _clock: trio.abc.Clock = attrs.field(init=False, factory=trio.lowlevel.current_clock)
    """Trio's clock of the worker's thread; `started_at` of its runs is by it."""

    def as_dict(self) -> dict[str, object]:
        """Return the content of the next heartbeat."""
        running = self._runner.running
        counts = self._recorder.counts
        is_stopping = self._ending.begun.is_set()
        return {
            **describe_worker(self._options, self._tasks.identifiers),
            **({} if self._why_no_lock is None else {"presence": {"why_not": self._why_no_lock}}),
            "phase": (WorkerPhase.STOPPING if is_stopping else WorkerPhase.RUNNING).value,
            "statistics": {
                "slots": self._options.concurrency,
                "busy": len(running),
                "held": self._local_queue.held,
                "completed": counts.completed,
                "failed": counts.failed,
                "tasks": self._totals.as_dict(),
                "running": describe_running(running, self._clock.current_time()),
            },
        }


def describe_worker(options: WorkerOptions, tasks: Iterable[str]) -> dict[str, object]:
    """Return what a worker is, and by which rules it takes jobs, without rules that are functions."""
    said: dict[str, object] = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "version": f"trio_graphile {installed_version() or ''}".rstrip(),
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
    """Describe the 100 oldest of these runs; `now` is by the same clock as `started_at`."""
    return [
        {
            "id": one.job.id,
            "task_identifier": one.job.task_identifier,
            "seconds": round(now - one.started_at, 3),
            "progress": progress_text(one.progress),
        }
        for one in islice(running, _MOST_RUNNING)
    ]


def progress_text(progress: object) -> str | None:
    """Return the beginning of a progress report as JSON; None if there is no report, or JSON cannot hold it.

    A handler may report anything, however large, and may change it at the same time from another thread. Only
    the part that is returned is encoded, since the lease waits for this.
    """
    if progress is None:
        return None
    text = ""
    try:
        for part in _ENCODER.iterencode(progress):
            text += part[:_MOST_PROGRESS]
            if len(text) >= _MOST_PROGRESS:
                break
        text.encode()  # a lone surrogate has no place in JSON
    except Exception:  # noqa: BLE001  # a handler's own types may raise anything
        return None
    return text[:_MOST_PROGRESS]


def _as_text(value: object) -> str:
    """Return the text of a time or a UUID. Raises `ValueError` for what JSON does not know."""
    text: str = decode(encode(value))
    return text


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_text)
