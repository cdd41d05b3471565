"""How a worker looks for jobs before its start, while it goes on to claim from the start on.

To step over the dead rows before the start takes half a second for each million of them. So a claim steps
over no more than a part of them.
"""

from __future__ import annotations

import math
from datetime import datetime

import attrs

from trio_graphile._model.instants import FIRST, LAST, moved

LOOK_SECONDS = 0.02
"""How long the dead rows of a part should take, and a claim look back: a job that comes meanwhile waits."""
PAUSE_FACTOR = 2.0
"""For so many times as long as it was looked back, claims do not look back."""
LONGEST_LOOK_SECONDS = 0.5
"""How long a claim may look back if claims are rare: for a third of the time since the one before."""
ROUND_SECONDS = 3.0
"""A round begins no sooner than so many seconds after the one before."""
MOST_LOOKS = 1000
"""The last of so many looks in a round is at all that is left: each may take long, wherever it looks."""
BETTER_FACTOR = 20.0
"""After a look at better priorities, so many times as long goes to others. Mostly no dead rows are there, and
a job of a better priority starts almost at once."""
NARROWEST, WIDEST = 1.0, 365 * 86_400.0
"""How many seconds a part is wide. One that would be wider begins before all jobs, those of better priorities
included."""
MOST_CHANGE = 2.0
"""A part is at most so many times as wide as the one before, or as narrow."""
BEST_PRIORITY = -32768
"""No job has a better one, since PostgreSQL's type has none."""


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
class _Round:
    """A round of looks, from the start to the past."""

    began_at: float
    until: datetime
    """Where the next part ends."""
    width: float = NARROWEST
    looks: int = 0
    seconds: float = 0.0
    """How long the dead rows have taken."""

    def begin_of_part(self, priority: int) -> Position | None:
        begin = moved(self.until, -self.width)
        if self.width >= WIDEST or begin == FIRST or self.looks >= MOST_LOOKS - 1:
            return None
        return Position(priority, begin)


@attrs.define
class LookBack:
    """Which part of what is before the start is next, and when.

    Nobody knows how many dead rows a part has, so how wide it is follows from how long the one before has
    taken, less what each look takes. Better priorities are a part by themselves, and have their own time.

    `now` is `trio.current_time()`.
    """

    round_seconds: float = math.inf
    """How long the dead rows took in the last round."""
    _round: _Round | None = None
    _older_at: float = -math.inf
    """After when the next part of a round is due."""
    _better_at: float = -math.inf
    """After when better priorities are."""
    _claim_began_at: float = math.inf
    _looked_at_better_at: float = -math.inf
    _quickest: float = math.inf
    """How long the quickest look has taken."""

    def begin(self, now: float) -> None:
        """Take notice that a claim begins."""
        share = 1 + PAUSE_FACTOR
        unused_since = min(self._claim_began_at, now - LOOK_SECONDS * share)
        self._older_at = max(self._older_at, unused_since, now - LONGEST_LOOK_SECONDS * share)
        self._claim_began_at = now

    def part(self, start: Position, now: float) -> Part | None:
        """Return what to look at now, if anything is due."""
        priority = start.priority
        if now > self._better_at and priority > BEST_PRIORITY:
            return Part(begin=None, end=Position(priority - 1, LAST), is_better=True)
        if now <= self._older_at:
            return None
        if self._round is None:
            self._round = _Round(now, start.run_at)
        return Part(begin=self._round.begin_of_part(priority), end=Position(priority, self._round.until))

    def looked(self, part: Part, seconds: float, now: float) -> None:
        """Take notice of how long it took to look at all of a part."""
        self._quickest = min(self._quickest, seconds)
        if self._round is None or part.is_better:
            self._looked_at_better_at = now
            self._better_at = now + min(seconds * BETTER_FACTOR, ROUND_SECONDS)
            return
        self._older_at += seconds * (1 + PAUSE_FACTOR)
        round_, for_dead_rows = self._round, seconds - self._quickest
        round_.seconds += for_dead_rows
        round_.looks += 1
        if part.begin is None:
            self.round_seconds, self._round = round_.seconds, None
            self._older_at = max(self._older_at, round_.began_at + ROUND_SECONDS)
        else:
            round_.until = part.begin.run_at
            change = LOOK_SECONDS / for_dead_rows if for_dead_rows else MOST_CHANGE
            round_.width = max(round_.width * min(max(change, 1 / MOST_CHANGE), MOST_CHANGE), NARROWEST)

    def next_at(self) -> float:
        """Return when to look again, after a claim that had room for more.

        Not for better priorities if it has looked at them: whoever adds a job to them announces it.
        """
        has_looked = self._looked_at_better_at >= self._claim_began_at or self._better_at == -math.inf
        return self._older_at if has_looked else min(self._older_at, self._better_at)
