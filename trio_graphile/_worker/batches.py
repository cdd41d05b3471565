"""Batches: outcomes that wait to be written together, and outcomes that the database refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import (
    Completed,
    Failed,
    Lost,
    Outcome,
    Removed,
    Returned,
    Settled,
    Snoozed,
)
from trio_graphile._model.pace import Pace

OutcomeT = TypeVar("OutcomeT", Completed, Failed, Returned, Snoozed, Removed)

_FIRST_PAUSE = 1.0
"""How long after a refusal an outcome is tried again for the first time, in seconds."""
_LONGEST_PAUSE = 300.0
"""The longest time between two such attempts, in seconds."""


@attrs.define(eq=False, kw_only=True)
class Waiting(Generic[OutcomeT]):
    """Outcomes of one kind that are not written yet."""

    kind: type[OutcomeT]
    delay: float = 0.0
    """How long the first outcome of a batch waits for others, in seconds."""
    outcomes: list[OutcomeT] = attrs.field(factory=list)
    due_at: float = math.inf
    """When the outcomes are to be written, by Trio's clock; infinity if there are none."""
    pace: Pace = attrs.field(factory=Pace)
    """How many of them to write at a time."""

    def forget(self, count: int) -> None:
        """Forget the oldest outcomes, which are written or set aside."""
        del self.outcomes[:count]
        self.due_at = trio.current_time() if self.outcomes else math.inf


@attrs.define(eq=False, kw_only=True)
class Refused:
    """An outcome that the database has refused. It is tried again, at growing intervals."""

    waiting: Waiting[Any]
    """The outcomes of its kind."""
    outcome: Any
    error: DatabaseError
    """Why the database refused it the last time."""
    due_at: float = attrs.field(init=False)
    """When it is tried again, by Trio's clock."""
    _delays: Iterator[float] = attrs.field(
        init=False, factory=lambda: backoff_delays(first=_FIRST_PAUSE, cap=_LONGEST_PAUSE)
    )

    def __attrs_post_init__(self) -> None:
        self.postpone(self.error)

    @property
    def job(self) -> Job:
        """The job of the outcome."""
        job: Job = self.outcome.job
        return job

    def postpone(self, error: DatabaseError) -> None:
        """Try again later: the database has refused it once more, because of `error`."""
        self.error = error
        self.due_at = trio.current_time() + next(self._delays)


class TooMuch(Exception):
    """A batch was not written in time. It would fail again, but fewer rows may not."""

    def __init__(self, error: DatabaseError) -> None:
        super().__init__(error)
        self.error = error


def certain_outcome(outcome: Outcome, lost: set[int], completed: set[int]) -> Outcome:
    """Return the outcome that became certain. The sets hold the identities of jobs, not their ids."""
    job = outcome.job
    return Lost(job) if id(job) in lost else Settled(job) if id(job) in completed else outcome
