"""The emitter: calls observers with events, in a Trio task of its own. No job waits for them.

Events wait in a queue of limited size. An event that finds it full is dropped and counted, unless it is
one of the few about the life of the worker. Each observer has limited time for each event. It is not
cancelled with the worker: it ends by itself, or when its time is over. At the end of the worker, one limit
holds for all events that are left.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import attrs
import outcome
import trio

from trio_graphile._interceptors.calls import begin, finish
from trio_graphile._interceptors.chains import Chains
from trio_graphile._interceptors.raised import is_cancellation
from trio_graphile._model.bell import Bell
from trio_graphile._model.counted import counted
from trio_graphile._model.groups import leaves
from trio_graphile._model.options import ObserverOptions
from trio_graphile.hooks._event import Event
from trio_graphile.hooks._registry import Hook
from trio_graphile.hooks._worker_events import (
    GracePeriodOver,
    ShutdownForced,
    ShutdownStarted,
    WorkerEnded,
    WorkerStarted,
    WorkerStarting,
)

T = TypeVar("T")
Facts = ParamSpec("Facts")
logger = logging.getLogger("trio_graphile.hooks")

# Events about the life of a worker. They are never dropped for lack of room.
_LIFE = (WorkerStarting, WorkerStarted, ShutdownStarted, GracePeriodOver, ShutdownForced, WorkerEnded)
_LONGEST_STRETCH = 0.0005
"""For how long events are delivered without giving way to other Trio tasks, in seconds."""


@attrs.define(eq=False, kw_only=True)
class Emitter:
    """Takes events from all services, in the worker's thread, and calls observers one after the other.

    Every run has one. Where there are no observers, `emit` takes next to no time.
    """

    worker_id: str
    _chains: Chains
    _options: ObserverOptions
    dropped: int = 0
    """How many events were dropped."""
    _reported: int = 0
    """How many of these the log has reported."""
    _waiting: deque[Event] = attrs.field(factory=deque)
    _arrived: Bell = attrs.field(factory=Bell)
    _observers: dict[object, tuple[Hook, ...]] = attrs.field(factory=dict)
    """The observers of events, by the class of the event; filled as classes are emitted."""
    _deadline: float = math.inf
    """When the time of all observers is over, by Trio's clock."""
    _scope: trio.CancelScope | None = None  # noqa: TID251  # the shield of the observer at work, with a deadline

    @property
    def waiting(self) -> int:
        """How many events wait to be delivered."""
        return len(self._waiting)

    @property
    def has_observers(self) -> bool:
        """Whether there is any observer."""
        return self._chains.has_observers

    def hears(self, *events: type[Event]) -> bool:
        """Whether one of these events has an observer. Ask once, where events are emitted for every job."""
        return any(self._chains.observers_of(event) for event in events)

    def emit(self, event: Callable[Facts, Event], *args: Facts.args, **facts: Facts.kwargs) -> None:
        """Have an event delivered to its observers: `emit(JobsReturned, count=3)`.

        The event is made only if it has observers; `worker_id` is filled in. Neither blocks nor fails, and is
        no checkpoint.
        """
        observers = self._observers.get(event)
        if observers is None:
            observers = self._observers[event] = self._chains.observers_of(event)  # type: ignore[arg-type]  # a class
        if not observers:
            return
        if len(self._waiting) >= self._options.queue_size and event not in _LIFE:
            self._drop()
            return
        made = event(*args, worker_id=self.worker_id, **facts)  # type: ignore[arg-type]  # all of them have it
        self._waiting.append(made)
        self._arrived.ring()

    async def run_beside(self, body: Callable[[], Awaitable[T]], *, limit: float) -> T:
        """Run the body, and deliver events meanwhile.

        At most `limit` seconds after the end of the body, every event is delivered or dropped. Raises what
        the body raises, not in a group, and is cancelled as the body is.
        """
        if not self._chains.has_observers:
            return await body()
        try:
            return await self._run_beside(body, limit)
        finally:
            with trio.move_on_at(self._deadline, shield=True):
                await self._deliver_rest()
            self._drop(len(self._waiting))
            self._report_dropped()

    async def _run_beside(self, body: Callable[[], Awaitable[T]], limit: float) -> T:
        ended: outcome.Outcome[T]
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, name="observers")
                try:
                    ended = outcome.Value(await body())
                except BaseException as raised:  # noqa: ASYNC103  # raised below, without a group around it
                    if is_cancellation(raised):
                        raise
                    error, ended = raised, outcome.Error(raised)
                finally:
                    self._deadline = trio.current_time() + limit
                    if self._scope is not None:
                        self._scope.deadline = min(self._scope.deadline, self._deadline_of_one())
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if error is None or is_cancellation(group):
                raise
            # Ctrl-C in an observer has ended the body: what the body raised then is not lost.
            raise BaseExceptionGroup("in an observer, and then", [*leaves(group), *leaves(error)]) from group
        return ended.unwrap()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        """Deliver events until cancelled. An event is always delivered to all its observers."""
        while True:
            if not self._waiting:
                self._report_dropped()
                await self._arrived.wait()
            stretch_ends_at = time.monotonic() + _LONGEST_STRETCH
            while self._waiting and self._deadline == math.inf and time.monotonic() < stretch_ends_at:
                await self._deliver_next()
            await trio.lowlevel.checkpoint()

    async def _deliver_rest(self) -> None:
        """Deliver what is left; in the second half of the time, only events about the worker's life."""
        half_time = (trio.current_time() + self._deadline) / 2
        while self._waiting:
            if trio.current_time() >= half_time:
                life = [event for event in self._waiting if isinstance(event, _LIFE)]
                self._drop(len(self._waiting) - len(life))
                self._waiting = deque(life)
                half_time = math.inf
            if self._waiting:
                await self._deliver_next()
            await trio.lowlevel.checkpoint()

    async def _deliver_next(self) -> None:
        event = self._waiting.popleft()
        for hook in self._observers[type(event)]:
            began = trio.current_time()
            answer = begin(hook, event)
            if answer is not None and inspect.isawaitable(answer):
                await self._finish(hook, event, answer)
            elif (took := trio.current_time() - began) > self._options.timeout:
                logger.warning("%s held up the event loop: it took %.1f s", hook, took)
            if isinstance(answer, outcome.Error):
                _log(hook, answer)

    async def _finish(self, hook: Hook, event: Event, answer: Awaitable[object]) -> None:
        with trio.move_on_at(self._deadline_of_one(), shield=True) as self._scope:
            result = await finish(answer)
            if isinstance(result, outcome.Error):
                _log(hook, result)
        if self._scope.cancelled_caught:
            logger.warning("%s was cancelled: it took too long for %s", hook, type(event).__name__)
        self._scope = None

    def _deadline_of_one(self) -> float:
        """Return until when an observer may run: at the end, for half of the time that is left."""
        now = trio.current_time()
        return now + min(self._options.timeout, (self._deadline - now) / 2)

    def _drop(self, count: int = 1) -> None:
        if self.dropped == self._reported and count:
            logger.warning("observers are too slow: events are dropped")
        self.dropped += count

    def _report_dropped(self) -> None:
        if self.dropped > self._reported:
            count, self._reported = self.dropped - self._reported, self.dropped
            logger.warning("dropped %s, since observers were too slow", counted(count, "event"))


def _log(hook: Hook, raised: outcome.Error) -> None:
    logger.error("%s raised; nobody else is affected", hook, exc_info=raised.error)
