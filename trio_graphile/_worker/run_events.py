"""What observers are told of a run: that it starts, has started, begins to end, and has ended."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._model.failures import describe_error
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile.hooks._event import Teller
from trio_graphile.hooks._worker_events import (
    GracePeriodOver,
    ShutdownForced,
    ShutdownStarted,
    WorkerEnded,
    WorkerStarted,
    WorkerStarting,
)


@attrs.define(eq=False)
class RunEvents:
    """Tells observers of one run, in its order; nothing after its end."""

    _teller: Teller
    _is_over: bool = False

    def starting(self, *, schema: str, concurrency: int, tasks: Sequence[str]) -> None:
        """Say that it starts."""
        self._teller.tell(
            WorkerStarting(
                worker_id=self._teller.worker_id,
                schema=schema,
                concurrency=concurrency,
                tasks=tuple(tasks),
            )
        )

    def started(self) -> None:
        """Say that it takes jobs from now on."""
        self._teller.tell(WorkerStarted(worker_id=self._teller.worker_id))

    def ending(self, cause: StopCause, running: tuple[Job, ...], grace_period: float) -> None:
        """Say that it begins to end."""
        self._teller.tell(
            ShutdownStarted(
                worker_id=self._teller.worker_id,
                cause=cause,
                running=running,
                grace_period=grace_period,
            )
        )

    def forced(self, running: tuple[Job, ...]) -> None:
        """Say that handlers are interrupted, because somebody wants it so."""
        if not self._is_over:
            self._teller.tell(ShutdownForced(worker_id=self._teller.worker_id, running=running))

    def grace_period_over(self, running: tuple[Job, ...]) -> None:
        """Say that handlers are interrupted, because their time is over."""
        self._teller.tell(GracePeriodOver(worker_id=self._teller.worker_id, running=running))

    def ended(
        self,
        cause: StopCause | None,
        report: ShutdownReport | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Say that it has ended: with a report or an error, or because the scope around it was cancelled."""
        self._is_over = True
        self._teller.tell(
            WorkerEnded(
                worker_id=self._teller.worker_id,
                cause=cause,
                report=report,
                error=None if error is None else describe_error(error),
            )
        )
