"""The sweeper: gives back the jobs of workers that died, and releases locks that nobody can still want.

It takes the samples for charts as well: all of it is done now and then, and none of it is in a hurry.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.options import RecoveryOptions
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.maintenance import Maintenance
from trio_graphile.hooks._job_events import InterruptReason, JobInterrupted
from trio_graphile.hooks._worker_events import LocksReset, MaintenanceFailed, WorkersRecovered

logger = logging.getLogger("trio_graphile.worker")

# All in seconds.
_FIRST_SWEEP_WITHIN = 5.0
_FIRST_RESET_WITHIN = 60.0
_FIRST_SAMPLE_WITHIN = 10.0
_SAMPLE_INTERVAL = 60.0


@attrs.define(eq=False, kw_only=True)
class _Chore:
    """Something to be done every now and then, never at the same moment by a whole fleet."""

    what: str
    do: Callable[[], Awaitable[None]]
    interval: float
    jitter: float
    """By how much of itself the interval varies, up and down; 0 keeps the beat."""
    due_at: float
    is_minor: bool = False
    """Whether nobody need be told each time that it fails."""
    has_failed: bool = False
    """Whether it did the last time."""

    def postpone(self) -> None:
        """Make it due one interval from now, or from when it was due if it keeps the beat."""
        if not self.jitter and trio.current_time() < self.due_at + self.interval:
            self.due_at += self.interval
            return
        spread = random.uniform(-self.jitter, self.jitter)  # noqa: S311  # not a secret
        self.due_at = trio.current_time() + self.interval * (1 + spread)


@attrs.define(eq=False, kw_only=True)
class Sweeper:
    """Does all for as long as its worker lives, one thing at a time."""

    _options: RecoveryOptions | None
    """None looks for no dead workers; old locks are released all the same."""
    _maintenance: Maintenance
    _emitter: Emitter

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sweep until cancelled: at once, or nearly so, then at intervals. What fails is left for next time.

        What does not pass, too: the worker's own jobs have nothing to do with it.
        """
        chores = self._chores()
        task_status.started()
        while True:
            chore = min(chores, key=lambda chore: chore.due_at)
            await trio.sleep_until(chore.due_at)
            try:
                await chore.do()
                chore.has_failed = False
            except DatabaseError as error:
                self._note_failure(chore, error)
            chore.postpone()

    def _note_failure(self, chore: _Chore, error: DatabaseError) -> None:
        is_known, chore.has_failed = chore.has_failed, True
        if chore.is_minor and is_known:
            return
        level = logging.WARNING if error.transient else logging.ERROR
        logger.log(level, "%s failed, to be tried again later: %s", chore.what, error)
        self._emitter.emit(MaintenanceFailed, what=chore.what, error=str(error))

    def _chores(self) -> list[_Chore]:
        options = RecoveryOptions() if self._options is None else self._options
        resetting = _Chore(
            what="releasing old locks",
            do=self._release_old_locks,
            interval=options.reset_interval,
            jitter=1 / 9,  # 8 to 10 minutes, as Node does it
            due_at=_soon(min(_FIRST_RESET_WITHIN, options.reset_interval)),
        )
        sweeping = _Chore(
            what="looking for dead workers",
            do=self._recover_jobs,
            interval=options.sweep_interval,
            jitter=0.2,
            due_at=_soon(min(_FIRST_SWEEP_WITHIN, options.sweep_interval)),
        )
        sampling = _Chore(
            what="taking a sample",
            do=self._maintenance.take_sample,
            interval=_SAMPLE_INTERVAL,
            jitter=0.0,
            due_at=_soon(min(_FIRST_SAMPLE_WITHIN, options.sweep_interval)),
            is_minor=True,
        )
        return [resetting, sampling] if self._options is None else [sweeping, resetting, sampling]

    async def _recover_jobs(self) -> None:
        sweep = await self._maintenance.sweep()
        report = sweep.report
        if not report.worker_ids:
            return
        workers = ", ".join(report.worker_ids)
        logger.warning("gave back %d jobs of workers that are gone: %s", report.recovered_jobs, workers)
        for job in sweep.jobs:
            self._emitter.emit(
                JobInterrupted,
                job=job,
                reason=InterruptReason.WORKER_CRASHED,
                previous_worker_id=job.locked_by,
            )
        self._emitter.emit(WorkersRecovered, dead_worker_ids=report.worker_ids, jobs=report.recovered_jobs)

    async def _release_old_locks(self) -> None:
        report = await self._maintenance.release_old_locks()
        if report.jobs or report.queues:
            logger.warning(
                "released %d jobs and %d queues that were locked for over four hours",
                report.jobs,
                report.queues,
            )
        self._emitter.emit(LocksReset, jobs=report.jobs, queues=report.queues)


def _soon(seconds: float) -> float:
    return trio.current_time() + random.uniform(0, seconds)  # noqa: S311  # not a secret
