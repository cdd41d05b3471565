"""Run events: emits events about the life of one run, and knows how far it has come."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._model.failures import describe_error
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._model.statistics import WorkerPhase
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.ending import Ending
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
    """Each method emits one event; after the end of the run, `forced` emits none."""

    _emitter: Emitter
    _ending: Ending
    has_started: bool = attrs.field(init=False, default=False)
    """Whether the run has begun to take jobs."""
    _is_over: bool = attrs.field(init=False, default=False)

    @property
    def phase(self) -> WorkerPhase:
        """How far the run has come."""
        if self._ending.begun.is_set():
            return WorkerPhase.STOPPING
        return WorkerPhase.RUNNING if self.has_started else WorkerPhase.STARTING

    def starting(self, *, schema: str, concurrency: int, tasks: Sequence[str]) -> None:
        """The run starts."""
        self._emitter.emit(WorkerStarting, schema=schema, concurrency=concurrency, tasks=tuple(tasks))

    def started(self) -> None:
        """The run takes jobs from now on."""
        self.has_started = True
        self._emitter.emit(WorkerStarted)

    def ending(self, running: tuple[Job, ...], grace_period: float) -> None:
        """The run begins to end."""
        self._emitter.emit(
            ShutdownStarted, cause=self._ending.cause, running=running, grace_period=grace_period
        )

    def forced(self, running: tuple[Job, ...]) -> None:
        """Handlers are interrupted, since `Worker.cancel` was called."""
        if not self._is_over:
            self._emitter.emit(ShutdownForced, running=running)

    def grace_period_over(self, running: tuple[Job, ...]) -> None:
        """Handlers are interrupted, since the grace period is over."""
        self._emitter.emit(GracePeriodOver, running=running)

    def ended(
        self,
        cause: StopCause | None,
        report: ShutdownReport | None = None,
        error: BaseException | None = None,
    ) -> None:
        """The run has ended: with a report or an error, or because the scope around it was cancelled."""
        self._is_over = True
        text = None if error is None else describe_error(error)
        self._emitter.emit(WorkerEnded, cause=cause, report=report, error=text)
