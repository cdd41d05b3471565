"""Absences: since when the locks of other workers are gone, and whose jobs may be taken."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import trio

from trio_graphile._database.presence_locks import Gone


@attrs.define(eq=False)
class Absences:
    """Remembers what each look has seen. A key that is gone once is gone for good."""

    _since: dict[Gone, float] = attrs.field(init=False, factory=dict)

    def note(self, gone: Iterable[Gone], now: float) -> None:
        """Take notice of all whose locks are gone."""
        self._since = {one: self._since.get(one, now) for one in gone}

    def due(self, now: float) -> list[Gone]:
        """Return those that have been gone for their grace."""
        return [one for one, since in self._since.items() if now >= since + one.grace]

    def next_in(self, now: float, longest: float) -> float:
        """Return how long it is until the next one is due, in seconds, and at most `longest`."""
        waits = [since + one.grace - now for one, since in self._since.items()]
        return min([longest, *(wait for wait in waits if wait > 0)])


@attrs.define(eq=False)
class Takeovers:
    """The workers whose jobs may be taken; the lease's thread says so, and the sweeper is woken."""

    _gone: list[Gone] = attrs.field(init=False, factory=list)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)

    def put(self, gone: list[Gone]) -> None:
        """Say whose. In the worker's thread."""
        self._gone = gone
        self._news.set()

    async def wait(self) -> None:
        """Wait until there is somebody."""
        await self._news.wait()

    def take(self) -> list[Gone]:
        """Return who there is."""
        gone, self._gone, self._news = self._gone, [], trio.Event()
        return gone
