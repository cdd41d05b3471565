"""The watch: looks for standstills of slots and services, and logs them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import attrs
import trio

from trio_graphile._model.health import standstills
from trio_graphile._model.statistics import WorkerPhase, WorkerStatistics

logger = logging.getLogger("trio_graphile.worker")

_INTERVAL = 1.0
"""The time between two looks, in seconds."""
_LOOKS_IN_A_ROW = 3
"""At how many looks in a row something has to stand still to be a standstill: for a moment, much does."""


@attrs.define(eq=False, kw_only=True)
class Watch:
    """Looks every second while the worker runs. It changes nothing: a standstill is a bug of the worker."""

    _statistics: Callable[[], WorkerStatistics]
    _interval: float = _INTERVAL
    standing: tuple[str, ...] = ()
    """What stands still at this moment."""
    since: float | None = None
    """When the standstill began, by Trio's clock; None if there is none."""
    _before: WorkerStatistics = attrs.field(factory=WorkerStatistics)
    _looks: dict[str, int] = attrs.field(factory=dict)
    """What stood still at the last look, and for how many looks in a row."""
    _names: set[str] = attrs.field(factory=set)
    """The names of the slots and services that were seen alive."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, nurseries: Iterable[trio.Nursery]) -> None:
        """Look until cancelled; `nurseries` hold the slots and services."""
        nurseries = tuple(nurseries)
        while True:
            alive = {task.name for nursery in nurseries for task in nursery.child_tasks}
            self._look(alive)
            await trio.sleep(self._interval)

    def _look(self, alive: set[str]) -> None:
        now = self._statistics()
        if now.phase is not WorkerPhase.RUNNING:
            return
        self._names |= alive
        found = [f"{name} has ended" for name in sorted(self._names - alive)]
        found += standstills(self._before, now)
        self._looks = {what: self._looks.get(what, 0) + 1 for what in found}
        self._before = now
        self._note(tuple(what for what, looks in self._looks.items() if looks >= _LOOKS_IN_A_ROW))

    def _note(self, standing: tuple[str, ...]) -> None:
        """Log standstills that begin or end."""
        for what in standing:
            if what not in self.standing:
                logger.error("the worker stands still: %s", what)
        for what in self.standing:
            if what not in standing:
                logger.warning("no longer: %s", what)
        self.standing = standing
        if not standing:
            self.since = None
        elif self.since is None:
            self.since = trio.current_time()
