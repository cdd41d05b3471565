"""Recovery as values: registered workers, silent workers, and what a sweep did."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._model.instants import moved
from trio_graphile._model.options import SweepOptions

WORKER_ID_PREFIX = "trio_graphile_"
"""The beginning of our worker ids. Such a worker renews its locks, so an old lock means that it is gone."""


@attrs.frozen(kw_only=True)
class ActiveWorker:
    """A worker that is registered in the database; those of Node never are."""

    worker_id: str
    """The id of the worker, which is the `locked_by` of its rows."""
    last_heartbeat_at: datetime
    started_at: datetime
    """When the worker registered; again if it had counted as dead."""
    metadata: Any = None
    """What the worker reports about itself: ours `pid`, `host`, `version`, `concurrency` and `tasks`."""
    is_stale: bool = False
    """Whether the last heartbeat is older than the given threshold, by the clock of the database."""

    @property
    def tasks(self) -> tuple[str, ...] | None:
        """The tasks that the worker says it has; None if it does not say."""
        tasks = self._said("tasks")
        return tuple(task for task in tasks if isinstance(task, str)) if isinstance(tasks, list) else None

    @property
    def has_lock(self) -> bool | None:
        """Whether a lock stands for the worker, so that its death is noticed; None if it does not say."""
        presence = self._presence
        return None if presence is None else "key" in presence

    @property
    def why_no_lock(self) -> str | None:
        """The reason why none does; None if one does, or the worker does not say."""
        presence = self._presence or {}
        return None if "why_not" not in presence else str(presence["why_not"])

    @property
    def _presence(self) -> dict[str, Any] | None:
        presence = self._said("presence")
        return presence if isinstance(presence, dict) else None

    def _said(self, name: str) -> Any:
        """Return what the metadata has under a name: any JSON value, written by any program."""
        return self.metadata.get(name) if isinstance(self.metadata, dict) else None


@attrs.frozen(kw_only=True)
class SilentWorker:
    """A worker that has given no sign of life for longer than a threshold."""

    worker_id: str
    is_registered: bool
    silent_for: float
    """Seconds since its last heartbeat; for an unregistered worker, since it last took or renewed a lock."""
    holds_resilient: bool = False
    """Whether one of its jobs has a flag that gives its worker more time."""


@attrs.frozen(kw_only=True)
class SweepReport:
    """The result of a sweep."""

    worker_ids: tuple[str, ...] = ()
    """The workers that are dead: first registered ones, then those that only their locks show."""
    recovered_jobs: int = 0
    """How many jobs were given back; 0 in a dry run."""
    dry_run: bool = False
    job_ids: tuple[int, ...] = attrs.field(default=(), eq=False, repr=False)
    """The ids of the jobs that were given back."""


@attrs.frozen(kw_only=True)
class ResetReport:
    """The numbers of locks that were too old to belong to any worker."""

    jobs: int = 0
    queues: int = 0


def dead_workers(
    silent: Iterable[SilentWorker], options: SweepOptions, sweeper_id: str | None = None
) -> tuple[str, ...]:
    """Return the ids of the workers that have been silent for so long that they count as dead.

    If the worker that looks is among them, the database's clock was set forward, or this worker cannot write
    its heartbeat. Either way it cannot tell who is dead, and nobody is.
    """
    dead = tuple(worker.worker_id for worker in silent if worker.silent_for > _threshold_of(worker, options))
    return () if sweeper_id in dead else dead


def given_back_at(worker: SilentWorker, last_sign_at: datetime, options: SweepOptions) -> datetime:
    """Return when a sweep takes the jobs of a worker, if it shows no further sign of life."""
    return moved(last_sign_at, _threshold_of(worker, options))


def _threshold_of(worker: SilentWorker, options: SweepOptions) -> float:
    is_ours = worker.worker_id.startswith(WORKER_ID_PREFIX)
    if worker.is_registered:
        threshold = options.sweep_threshold
        if not is_ours:  # our intervals do not hold for them: they may send heartbeats far less often
            threshold = max(threshold, options.foreign_threshold)
        return threshold * (options.resilient_multiplier if worker.holds_resilient else 1.0)
    if is_ours:
        return options.sweep_threshold
    return options.orphan_threshold  # Node's workers do not renew: a long job looks the same
