"""The sweeper: gives back the jobs of workers that died, releases old locks, and takes samples for charts.

All of that is done now and then, and none of it is urgent.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._interceptors.recoveries import Sweep
from trio_graphile._model.counted import counted
from trio_graphile._model.options import RecoveryOptions
from trio_graphile._worker.absences import Takeovers
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.maintenance import Maintenance
from trio_graphile.hooks._job_events import InterruptReason, JobInterrupted
from trio_graphile.hooks._worker_events import LocksReset, MaintenanceFailed, WorkersRecovered

logger = logging.getLogger("trio_graphile.worker")

_FIRST_SWEEP_WITHIN = 5.0
"""How long after the start the first sweep is due at the latest, in seconds."""
_FIRST_RESET_WITHIN = 60.0
"""The same for the first release of old locks, in seconds."""
_FIRST_SAMPLE_WITHIN = 10.0
"""The same for the first sample, in seconds."""
_SAMPLE_INTERVAL = 60.0
"""The time between two samples, in seconds."""


@attrs.define(eq=False, kw_only=True)
class _Chore:
    """Something that is done now and then, and not by all workers at the same moment."""

    what: str
    do: Callable[[], Awaitable[None]]
    interval: float
    """In seconds."""
    jitter: float
    """The share of the interval by which it varies at random, up and down; with 0 the chore is due at fixed
    times."""
    due_at: float
    """By Trio's clock."""
    is_minor: bool = False
    """Whether a failure is logged only if the chore did not fail the last time, too."""
    has_failed: bool = False
    """Whether the chore failed the last time."""

    def postpone(self) -> None:
        """Make the chore due one interval from now, or from when it was due if it has no jitter."""
        if not self.jitter and trio.current_time() < self.due_at + self.interval:
            self.due_at += self.interval
            return
        spread = random.uniform(-self.jitter, self.jitter)  # noqa: S311  # not a secret
        self.due_at = trio.current_time() + self.interval * (1 + spread)


@attrs.define(eq=False, kw_only=True)
class Sweeper:
    """Does its chores until the worker ends, one at a time."""

    _options: RecoveryOptions | None
    """None if dead workers are not looked for. Old locks are released all the same."""
    _lease_length: float
    """How long what is locked by this worker stays so, in seconds, if it does not know of it."""
    _maintenance: Maintenance
    _emitter: Emitter
    _takeovers: Takeovers = attrs.field(factory=Takeovers)
    """Wakes the sweeper when workers are gone."""
    _announcements: Announcements | None = None
    """Has jobs claimed at once that were taken from workers that are gone."""
    _scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)  # noqa: TID251  # for `stop`

    def stop(self) -> None:
        """Have it end, and do not wait: an interceptor of a recovery may not let itself be cancelled."""
        self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do chores until stopped or cancelled, the first soon after the start.

        A chore that fails is tried again an interval later. No failure ends the worker, not even one that is
        not transient: its own jobs do not depend on chores.
        """
        with self._scope:
            await self._do_chores(task_status)

    async def _do_chores(self, task_status: trio.TaskStatus[None]) -> None:
        chores = self._chores()
        taking = _Chore(
            what="taking the jobs of workers that are gone",
            do=self._take_jobs,
            interval=math.inf,
            jitter=0.0,
            due_at=math.inf,
        )
        task_status.started()
        while True:
            chore = min(chores, key=lambda chore: chore.due_at)
            with trio.move_on_at(chore.due_at):
                await self._takeovers.wait()
                chore = taking
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
        logger.log(level, "%s failed and is tried again later: %s", chore.what, error)
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
        returning = _Chore(
            what="looking for locks of its own that it does not know of",
            do=self._maintenance.return_unknown,
            interval=self._lease_length,
            jitter=0.1,
            due_at=trio.current_time() + self._lease_length,
        )
        chores = [resetting, sampling, returning]
        return chores if self._options is None else [sweeping, *chores]

    async def _recover_jobs(self) -> None:
        self._tell_recovered(await self._maintenance.sweep())

    async def _take_jobs(self) -> None:
        sweep = await self._maintenance.take_jobs(self._takeovers.take())
        self._tell_recovered(sweep)
        if self._announcements is not None and sweep.report.recovered_jobs:
            self._announcements.add(sweep.report.recovered_jobs)

    def _tell_recovered(self, sweep: Sweep) -> None:
        report = sweep.report
        if not report.worker_ids:
            return
        workers = ", ".join(report.worker_ids)
        jobs = counted(report.recovered_jobs, "job")
        logger.warning("gave back %s of workers that are gone: %s", jobs, workers)
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
        if report is None:
            return
        if report.jobs or report.queues:
            logger.warning(
                "released %s and %s that were locked for over four hours",
                counted(report.jobs, "job"),
                counted(report.queues, "queue"),
            )
        self._emitter.emit(LocksReset, jobs=report.jobs, queues=report.queues)


def _soon(seconds: float) -> float:
    return trio.current_time() + random.uniform(0, seconds)  # noqa: S311  # not a secret
