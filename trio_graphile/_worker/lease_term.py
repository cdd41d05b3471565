"""The term of the lease: until when what we hold is ours, whatever becomes of the database."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from trio_graphile._model.options import LeaseOptions
from trio_graphile._worker.clocks import find_clock


@attrs.define(eq=False)
class LeaseTerm:
    """When the lease ends if it is not renewed. Written by the lease, asked by whoever is about to run a job.

    The lease's thread writes it, the worker's thread asks it: each method is one look at one value.
    """

    _options: LeaseOptions
    now: Callable[[], float] = attrs.field(factory=find_clock)
    """The clock by which it ends."""
    renewed_at: float | None = attrs.field(init=False, default=None)
    """When the last renewal that succeeded had begun; None if none has."""
    _ends_at: float = attrs.field(init=False, default=0.0)

    def begin(self, at: float) -> None:
        """Count the term from this moment."""
        self._ends_at = at + self.whole

    def holds(self) -> bool:
        """Whether nobody may have taken our jobs yet.

        False, once it has ended, until the worker was told so and it has begun again: nothing runs before.
        """
        return self.now() < self._ends_at  # asked before each job

    @property
    def whole(self) -> float:
        """How long it lasts, in seconds: the margin is left for handlers to be interrupted in."""
        return self._options.length - self._options.margin

    @property
    def left(self) -> float:
        """How many seconds are left; negative once it has ended."""
        return self._ends_at - self.now()

    @property
    def age(self) -> float | None:
        """For how many seconds the lease has not been renewed; None if it never was."""
        return None if self.renewed_at is None else self.now() - self.renewed_at
