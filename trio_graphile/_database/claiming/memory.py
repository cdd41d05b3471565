"""What a worker remembers of its claims: where jobs begin that it can claim, and which claim finds them."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from datetime import datetime

import attrs

from trio_graphile._model.jobs import Job

_QUICK = 0.005
_SLOW = 0.02
_FEW = 20
_TOO_LONG = 2.0
_PATIENCE = 10.0
_LONGEST_PATIENCE = 3.0
_BUSY = 0.5
_LOOK_INTERVAL = 1.0
_WIDE = 10
_WIDE_PERIOD = 10.0


@attrs.frozen
class Position:
    """A place in the order in which jobs are taken."""

    priority: int
    run_at: datetime


@attrs.define
class Floor:
    """From where on a claim looks, for a while, after two that had to look at very much. Times are seconds.

    While any transaction on the server is older than they are, the traces of jobs that are gone stay in the
    index, and each claim steps over all of them. So what was found last is remembered, for ten times as long
    as it took to find: then nine tenths of the time are spent on jobs.
    """

    _position: Position | None = None
    _until: float = -math.inf
    _was_slow: bool = False
    """Whether the last claim was slow. One may be by chance; the second is for a reason."""
    _best_per_job: float = math.inf
    """What a job of a large claim has taken at best."""

    def at(self, now: float) -> Position | None:
        """Return from where on to look; None for everywhere."""
        return self._position if now < self._until else None

    def learn(self, jobs: Sequence[Job], took: float, now: float) -> None:
        """Take notice of what a claim that looked everywhere brought, and of how long it took."""
        was_slow, self._was_slow = self._was_slow, bool(jobs) and took > self._usual(len(jobs))
        if was_slow and self._was_slow:
            self._position = Position(jobs[0].priority, jobs[0].run_at)
            self._until = now + min(took * _PATIENCE, _LONGEST_PATIENCE)
        if len(jobs) >= _FEW:
            self._best_per_job = min(self._best_per_job, took / len(jobs))

    def _usual(self, jobs: int) -> float:
        """Return how long a claim of so many may take without being taken for slow."""
        if jobs < _FEW or math.isinf(self._best_per_job):
            return _SLOW
        return max(_QUICK, _TOO_LONG * self._best_per_job * jobs)

    def forget(self) -> None:
        """Look everywhere again."""
        self._until = -math.inf


class Plain(enum.StrEnum):
    """Why a claim need not look at named queues, and whether it need look behind a crowd."""

    NONE_QUEUED = "none_queued"
    """No job of a named queue waits."""
    QUEUES_LOCKED = "queues_locked"
    """Some do, but their queues are few, and locked."""
    BEHIND_CROWD = "behind_crowd"
    """No job of a named queue waits, and a crowd stands before jobs of few tasks and priorities."""


@attrs.define
class Front:
    """Why claims can be plain, or how far they look, for a while: the next finds what the last has found.

    Who claims often looks once in a while, and saves more than that takes. Times are seconds.
    """

    _plain: Plain | None = None
    _looked_at: float = -math.inf
    _jobs_came_at: float = -math.inf
    _wide_until: float = -math.inf
    _was_slow: bool = False
    """As in `Floor`."""

    def is_worth_a_look(self, now: float) -> bool:
        """Return whether it is time to look: jobs have come just now, and it was not looked for a while."""
        return now - self._jobs_came_at < _BUSY and now - self._looked_at >= _LOOK_INTERVAL

    def seen(self, plain: Plain | None, now: float) -> None:
        """Take notice of what it looks like."""
        self._plain, self._looked_at = plain, now

    def plain(self, now: float) -> Plain | None:
        """Return why a plain claim is likely to do; None if it is not."""
        return self._plain if now - self._looked_at < _LOOK_INTERVAL else None

    def width(self, now: float) -> int:
        """Return how many times as far as usual to look for jobs of named queues.

        If the usual is not enough each queue is asked, and there may be very many.
        """
        return _WIDE if now < self._wide_until else 1

    def learn(self, jobs: Sequence[Job], took: float, now: float) -> None:
        """Take notice of what a claim brought, and of how long it took: a crowd may have come."""
        if jobs:
            self._jobs_came_at = now
        was_slow, self._was_slow = self._was_slow, took > _SLOW
        if was_slow and self._was_slow:
            self.forget()
            self._wide_until = now + _WIDE_PERIOD

    def forget(self) -> None:
        """Take it that claims cannot be plain, until the next look."""
        self._plain = None
