"""What the recorder writes: outcomes of one kind together, and those that the database refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Completed, Failed, Removed, Returned, Snoozed
from trio_graphile._model.pace import Pace

OutcomeT = TypeVar("OutcomeT", Completed, Failed, Returned, Snoozed, Removed)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0


@attrs.define(eq=False, kw_only=True)
class Waiting(Generic[OutcomeT]):
    """Outcomes of one kind that are not written yet."""

    kind: type[OutcomeT]
    delay: float = 0.0
    """How long the first of a batch waits for others, in seconds."""
    outcomes: list[OutcomeT] = attrs.field(factory=list)
    due_at: float = math.inf
    pace: Pace = attrs.field(factory=Pace)

    def forget(self, count: int) -> None:
        """Forget the oldest, which are written, or set aside."""
        del self.outcomes[:count]
        self.due_at = trio.current_time() if self.outcomes else math.inf


@attrs.define(eq=False, kw_only=True)
class Refused:
    """An outcome that the database does not take, for now: it is tried again, ever more rarely."""

    waiting: Waiting[Any]
    """Those of its kind."""
    outcome: Any
    error: DatabaseError
    """Why it is not taken."""
    due_at: float = attrs.field(init=False)
    _delays: Iterator[float] = attrs.field(
        init=False, factory=lambda: backoff_delays(first=_FIRST_PAUSE, cap=_LONGEST_PAUSE)
    )

    def __attrs_post_init__(self) -> None:
        self.postpone(self.error)

    @property
    def job(self) -> Job:
        """Whose outcome it is."""
        job: Job = self.outcome.job
        return job

    def postpone(self, error: DatabaseError) -> None:
        """Take notice that it was not taken, for this reason."""
        self.error = error
        self.due_at = trio.current_time() + next(self._delays)


class TooMuch(Exception):
    """A batch was not written in time, which it will not be the next time, either; fewer rows may be."""

    def __init__(self, error: DatabaseError) -> None:
        super().__init__(error)
        self.error = error
