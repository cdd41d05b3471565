"""A plugin that notes what it is told, and can be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs

from tests.support.waiting import wait_for_ring
from trio_graphile._model.bell import Bell
from trio_graphile.hooks import Event, Hooks

EventT = TypeVar("EventT", bound=Event)


@attrs.define(eq=False)
class Recorder:
    """Observes everything."""

    events: list[Event] = attrs.field(factory=list)
    _changed: Bell = attrs.field(factory=Bell)

    def register(self, hooks: Hooks) -> None:
        hooks.on(Event, self.note)

    def note(self, event: Event) -> None:
        self.events.append(event)
        self._changed.ring()

    def of(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, kind)]

    def names(self, *kinds: type[Event]) -> list[str]:
        return [type(event).__name__ for event in self.events if isinstance(event, kinds)]

    async def wait_for(self, kind: type[EventT], count: int = 1) -> list[EventT]:
        await self.wait_until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        await wait_for_ring(self._changed, condition)


@attrs.define
class Counting:
    """A plugin with a state of its own, shared by all whom it is given to."""

    seen: list[str] = attrs.field(factory=list)
    name: str = "counting"
    kinds: tuple[type[Event], ...] = (Event,)

    def register(self, hooks: Hooks) -> None:
        for kind in self.kinds:
            hooks.on(kind, lambda event: self.seen.append(f"{self.name}: {type(event).__name__}"))
