"""Scheduling points: the steps of all Trio tasks, counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import trio


class ActAt(trio.abc.Instrument):
    """Counts the steps of all Trio tasks and acts before the k-th."""

    def __init__(self, point: int | None, act: Callable[[], None]) -> None:
        self.count = 0
        self._point = point
        self._act = act

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  # the interface's name
        self.count += 1
        if self.count == self._point:
            self._act()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)
