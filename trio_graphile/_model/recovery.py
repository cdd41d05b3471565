"""Recovery as values: who is registered, who fell silent, whose jobs are taken back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._model.instants import moved
from trio_graphile._model.options import SweepOptions

WORKER_ID_PREFIX = "trio_graphile_"
"""What our worker ids begin with. Whoever has one renews its locks, so an old lock means that it is gone."""


@attrs.frozen(kw_only=True)
class ActiveWorker:
    """A worker that is registered in the database; those of Node never are."""

    worker_id: str
    """What stands in `locked_by` of the rows that it holds."""
    last_heartbeat_at: datetime
    started_at: datetime
    """When it registered; again after it was taken for dead."""
    metadata: Any = None
    """What it says of itself: of our workers `pid`, `host`, `version`, `concurrency` and `tasks`."""
    is_stale: bool = False
    """Whether the last heartbeat is older than the threshold that was asked for, by the database's clock."""


@attrs.frozen(kw_only=True)
class SilentWorker:
    """A worker that has given no sign of life for longer than a threshold."""

    worker_id: str
    is_registered: bool
    silent_for: float
    """Seconds since its last heartbeat, or, of an unregistered one, since it last took or renewed a lock."""
    holds_resilient: bool = False
    """Whether one of its jobs has a flag for which workers are given more time."""


@attrs.frozen(kw_only=True)
class SweepReport:
    """What a sweep found and did."""

    worker_ids: tuple[str, ...] = ()
    """The workers that are gone: first registered ones, then those known by their locks alone."""
    recovered_jobs: int = 0
    """How many jobs were given back; 0 in a dry run."""
    dry_run: bool = False
    job_ids: tuple[int, ...] = attrs.field(default=(), eq=False, repr=False)
    """Which jobs were given back."""


@attrs.frozen(kw_only=True)
class ResetReport:
    """How many locks were too old to be anybody's."""

    jobs: int = 0
    queues: int = 0


def dead_workers(
    silent: Iterable[SilentWorker], options: SweepOptions, sweeper_id: str | None = None
) -> tuple[str, ...]:
    """Return the ids of those that were silent for so long that they are taken for dead.

    If whoever looks is among them, the database's clock was set forward, or it cannot show that it lives:
    either way it is not the one to judge, and nobody is dead.
    """
    dead = tuple(worker.worker_id for worker in silent if worker.silent_for > _threshold_of(worker, options))
    return () if sweeper_id in dead else dead


def given_back_at(worker: SilentWorker, last_sign_at: datetime, options: SweepOptions) -> datetime:
    """Return from when on a sweep takes back what a worker has locked, if nothing more is heard of it."""
    return moved(last_sign_at, _threshold_of(worker, options))


def _threshold_of(worker: SilentWorker, options: SweepOptions) -> float:
    is_ours = worker.worker_id.startswith(WORKER_ID_PREFIX)
    if worker.is_registered:
        threshold = options.sweep_threshold
        if not is_ours:  # the times of ours are not theirs: they may send heartbeats far less often
            threshold = max(threshold, options.foreign_threshold)
        return threshold * (options.resilient_multiplier if worker.holds_resilient else 1.0)
    if is_ours:
        return options.sweep_threshold
    return options.orphan_threshold  # others neither register nor renew: a long job of theirs looks the same
