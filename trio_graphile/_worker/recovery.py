"""The sweeper: gives back the jobs of workers that died, and releases locks that nobody can still want."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.options import RecoveryOptions
from trio_graphile._model.recovery import ResetReport, SweepReport

logger = logging.getLogger("trio_graphile.worker")

_FIRST_SWEEP_WITHIN = 5.0
_FIRST_RESET_WITHIN = 60.0


@attrs.define(eq=False, kw_only=True)
class _Chore:
    """Something to be done every now and then, never at the same moment by a whole fleet."""

    what: str
    do: Callable[[], Awaitable[None]]
    interval: float
    jitter: float
    """By how much of itself the interval varies, up and down."""
    due_at: float

    def postpone(self) -> None:
        """Make it due one interval from now."""
        spread = random.uniform(-self.jitter, self.jitter)  # noqa: S311  # not a secret
        self.due_at = trio.current_time() + self.interval * (1 + spread)


@attrs.define(eq=False, kw_only=True)
class Sweeper:
    """Does both for as long as its worker lives, one thing at a time."""

    _options: RecoveryOptions | None
    """None looks for no dead workers; old locks are released all the same."""
    _sweep: Callable[[], Awaitable[SweepReport]]
    _reset: Callable[[], Awaitable[ResetReport]]

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sweep until cancelled: at once, or nearly so, then at intervals. What fails is left for next time.

        Raises `DatabaseError` for what will not pass.
        """
        chores = self._chores()
        task_status.started()
        while True:
            chore = min(chores, key=lambda chore: chore.due_at)
            await trio.sleep_until(chore.due_at)
            try:
                await chore.do()
            except DatabaseError as error:
                if not error.transient:
                    raise
                logger.warning("%s failed, to be tried again later: %s", chore.what, error)
            chore.postpone()

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
        return [resetting] if self._options is None else [sweeping, resetting]

    async def _recover_jobs(self) -> None:
        report = await self._sweep()
        if report.worker_ids:
            workers = ", ".join(report.worker_ids)
            logger.warning("gave back %d jobs of workers that are gone: %s", report.recovered_jobs, workers)

    async def _release_old_locks(self) -> None:
        report = await self._reset()
        if report.jobs or report.queues:
            logger.warning(
                "released %d jobs and %d queues that were locked for over four hours",
                report.jobs,
                report.queues,
            )


def _soon(seconds: float) -> float:
    return trio.current_time() + random.uniform(0, seconds)  # noqa: S311  # not a secret
