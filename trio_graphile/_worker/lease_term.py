"""The term of the lease: until when nobody else may take our jobs, even if the database is out of reach."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from trio_graphile._model.options import LeaseOptions
from trio_graphile._worker.clocks import find_clock


@attrs.define(eq=False)
class LeaseTerm:
    """When the lease ends if it is not renewed.

    The lease's thread writes it, and the worker's thread reads it before each job. Each method reads or
    writes one value, so it needs no lock.
    """

    _options: LeaseOptions
    now: Callable[[], float] = attrs.field(factory=find_clock)
    """The clock of the term, which goes on while the machine sleeps. Not Trio's clock. In seconds."""
    renewed_at: float | None = attrs.field(init=False, default=None)
    """When the last successful renewal began, by `now`; None if none has succeeded."""
    _ends_at: float = attrs.field(init=False, default=0.0)
    _cut_at: float = attrs.field(init=False, default=-math.inf)

    def begin(self, at: float) -> None:
        """Let the term begin at this moment, by `now`, unless it was cut since then."""
        if at >= self._cut_at:
            self._ends_at = at + self.whole

    def cut(self) -> None:
        """End the term now: other workers may take our jobs soon."""
        self._cut_at = self._ends_at = self.now()

    def holds(self) -> bool:
        """Whether nobody may have taken our jobs yet.

        Once the term has ended, it holds again only after the worker has given back what it held: no job runs
        before that.
        """
        return self.now() < self._ends_at  # asked before each job

    @property
    def whole(self) -> float:
        """How long the term is, in seconds. The margin of the lease is left to interrupt handlers in."""
        return self._options.length - self._options.margin

    @property
    def left(self) -> float:
        """How many seconds of the term are left; negative once it has ended."""
        return self._ends_at - self.now()

    @property
    def age(self) -> float | None:
        """How many seconds ago the last successful renewal began; None if none has succeeded."""
        return None if self.renewed_at is None else self.now() - self.renewed_at
