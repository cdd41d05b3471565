"""The refetch delay: the time after a claim that brought few jobs in which there is no other claim."""

from __future__ import annotations

import math
import random

import attrs
import trio

from trio_graphile._model.local_queue import draw_abort_threshold
from trio_graphile._model.options import LocalQueueOptions
from trio_graphile._worker.emitter import Emitter
from trio_graphile.hooks._worker_events import RefetchDelayAborted, RefetchDelayExpired, RefetchDelayStarted


@attrs.define(eq=False)
class RefetchDelay:
    """At most one delay is in force at a time."""

    _options: LocalQueueOptions
    _emitter: Emitter
    until: float = attrs.field(init=False, default=-math.inf)
    """When the delay ends, by Trio's clock; minus infinity if none is in force."""
    _enough: float = attrs.field(init=False, default=math.inf)
    """How many announced jobs abort the delay."""

    def begin(self, came: int, now: float) -> None:
        """Begin a delay if the last claim has brought no more jobs than the threshold: `came` of them."""
        delay = self._options.refetch_delay
        if delay is None or came > delay.threshold:
            return
        duration = delay.duration * random.uniform(0.5, 1.5)  # noqa: S311  # spreads a fleet
        self.until = now + duration
        self._enough = draw_abort_threshold(delay, self._options.size)
        self._emitter.emit(
            RefetchDelayStarted,
            duration=duration,
            threshold=delay.threshold,
            abort_threshold=self._enough,
        )

    def end_if_over(self, announced: int) -> None:
        """End the delay if its time is over, or if as many jobs as `announced` are enough to abort it."""
        if self.until == -math.inf:
            return
        if trio.current_time() >= self.until or announced >= self._enough:
            self.end(announced)

    def end(self, announced: int) -> None:
        """End the delay that is in force, if one is, and emit an event that says how it ended."""
        if self.until == -math.inf:
            return
        if trio.current_time() >= self.until:
            self._emitter.emit(RefetchDelayExpired)
        else:
            self._emitter.emit(RefetchDelayAborted, count=announced, abort_threshold=self._enough)
        self.until = -math.inf
