"""How a worker looks for jobs before its start, while it goes on to claim from the start on.

To step over the dead rows before the start takes half a second for each million of them. So a claim steps
over no more than a part of them.
"""

from __future__ import annotations

import math
from datetime import MINYEAR, UTC, datetime, timedelta

import attrs

LOOK_SECONDS = 0.02
"""How long a part should take, and a claim look at parts: a job that comes meanwhile waits for it."""
PAUSE_FACTOR = 2.0
"""For so many times as long as it was looked back, claims do not look back."""
ROUND_SECONDS = 3.0
"""A round begins no sooner than so many seconds after the one before."""
BETTER_FACTOR = 20.0
"""After a look at better priorities, so many times as long goes to others. Mostly no dead rows are there, and
a job of a better priority starts almost at once."""
FIRST_WIDTH = timedelta(seconds=1)
NARROWEST, WIDEST = timedelta(milliseconds=1), timedelta(days=365)
"""A part that would be wider begins before all jobs, those of better priorities included."""
MOST_CHANGE = 2.0
"""A part is at most so many times as wide as the one before, or as narrow."""
BEST_PRIORITY = -32768
"""No job has a better one, since PostgreSQL's type has none."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@attrs.frozen
class Position:
    """A place in the order in which jobs are taken."""

    priority: int
    run_at: datetime


@attrs.frozen(kw_only=True)
class Part:
    """The jobs from one place on, up to another."""

    begin: Position | None
    """None is before all jobs."""
    end: Position
    is_better: bool = False
    """Whether these are all jobs of better priorities."""


@attrs.define
class LookBack:
    """Which part of what is before the start is next, and when.

    A round of looks goes from the start to the past, in the priority of the start. Nobody knows how many dead
    rows a part has, so how wide it is follows from how long the one before has taken. Better priorities are a
    part by themselves, and have their own time.

    `now` is `trio.current_time()`.
    """

    round_seconds: float = math.inf
    """How long all looks of the last round took."""
    _older_at: float = -math.inf
    """After when the next part of the round is due."""
    _until: datetime | None = None
    """Where it ends; None if it is the first."""
    _width: timedelta = FIRST_WIDTH
    _round_began_at: float = -math.inf
    _seconds: float = 0.0
    """How long the looks of this round have taken."""
    _better_at: float = -math.inf
    """After when better priorities are due."""
    _looked_at_better_at: float = -math.inf

    def part(self, start: Position, now: float) -> Part | None:
        """Return what to look at now, if anything is due."""
        priority = start.priority
        if now > self._better_at and priority > BEST_PRIORITY:
            return Part(begin=None, end=Position(priority - 1, END_OF_TIME), is_better=True)
        if now <= self._older_at:
            return None
        if self._until is None:
            self._until, self._round_began_at, self._seconds = start.run_at, now, 0.0
        return Part(begin=self._begin(priority, self._until), end=Position(priority, self._until))

    def _begin(self, priority: int, until: datetime) -> Position | None:
        if self._width >= WIDEST or until.year <= MINYEAR + 1:
            return None
        return Position(priority, until - self._width)

    def looked(self, part: Part, seconds: float, now: float) -> None:
        """Take notice of how long it took to look at all of a part."""
        if part.is_better:
            self._looked_at_better_at = now
            self._better_at = now + min(seconds * BETTER_FACTOR, ROUND_SECONDS)
            return
        self._seconds += seconds
        unused_since = now - LOOK_SECONDS * (1 + PAUSE_FACTOR)  # time before that is not made up for
        self._older_at = max(self._older_at, unused_since) + seconds * (1 + PAUSE_FACTOR)
        if part.begin is None:
            self.round_seconds = self._seconds
            self._older_at = max(self._older_at, self._round_began_at + ROUND_SECONDS)
            self._until, self._width = None, FIRST_WIDTH
        else:
            self._until = part.begin.run_at
            change = LOOK_SECONDS / seconds if seconds else MOST_CHANGE
            width = self._width * min(max(change, 1 / MOST_CHANGE), MOST_CHANGE)
            self._width = min(max(width, NARROWEST), WIDEST)

    def next_at(self, began_at: float) -> float:
        """Return when to look again, for a claim that began then and had room for more.

        Not for better priorities if it has looked at them: whoever adds a job to them announces it.
        """
        if self._looked_at_better_at >= began_at:
            return self._older_at
        return min(self._older_at, self._better_at)
