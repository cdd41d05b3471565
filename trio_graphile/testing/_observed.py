"""Observed: a plugin that records what happens, so that a test waits for events instead of sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs

from trio_graphile._model.bell import Bell
from trio_graphile.hooks._event import Event, check_event_class
from trio_graphile.hooks._registry import Hooks

EventT = TypeVar("EventT", bound=Event)


@attrs.define(eq=False)
class Observed:
    """A plugin that records all events of the workers that it is given to, in their order."""

    events: list[Event] = attrs.field(factory=list)
    _changed: Bell = attrs.field(init=False, factory=Bell, repr=False)

    def register(self, hooks: Hooks, /) -> None:
        """Register the observer. A worker calls this."""
        hooks.on(Event, self._record)

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the recorded events of a class, and of its subclasses."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(
        self, kind: type[EventT], where: Callable[[EventT], bool] | None = None, *, count: int = 1
    ) -> EventT:
        """Wait for an event of a class, or return at once if it was recorded already.

        `where` is asked whether it is the one: `lambda event: event.job.id == job.id`. With `count=3` waits
        for the third, and returns that. Waits for ever: the limit is yours, `with trio.fail_after(5)`.
        """
        check_event_class("kind", kind)
        while True:
            found = [event for event in self.of(kind) if where is None or where(event)]
            if len(found) >= count:
                return found[count - 1]
            await self._changed.wait()

    def _record(self, event: Event) -> None:
        self.events.append(event)
        self._changed.ring()
