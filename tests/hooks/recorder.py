"""A plugin that notes what it is told, and can be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from tests.support.waiting import PATIENCE
from trio_graphile.hooks import Event, Hooks
from trio_graphile.testing import Observed

EventT = TypeVar("EventT", bound=Event)


class Recorder(Observed):
    """Records everything; each wait has an end."""

    def names(self, *kinds: type[Event]) -> list[str]:
        return [type(event).__name__ for event in self.events if isinstance(event, kinds)]

    async def wait_for(
        self, kind: type[EventT], where: Callable[[EventT], bool] | None = None, *, count: int = 1
    ) -> EventT:
        with trio.fail_after(PATIENCE):
            return await super().wait_for(kind, where, count=count)


@attrs.define
class Counting:
    """A plugin with a state of its own, shared by all whom it is given to."""

    seen: list[str] = attrs.field(factory=list)
    name: str = "counting"
    kinds: tuple[type[Event], ...] = (Event,)

    def register(self, hooks: Hooks) -> None:
        for kind in self.kinds:
            hooks.on(kind, lambda event: self.seen.append(f"{self.name}: {type(event).__name__}"))
