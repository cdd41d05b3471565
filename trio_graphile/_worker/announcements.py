"""Announcements: how many jobs there may be to claim of which no claim has heard yet."""

from __future__ import annotations

import attrs

from trio_graphile._model.bell import Bell
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.refetch_delay import RefetchDelay


@attrs.define(eq=False, kw_only=True)
class Announcements:
    """Counts what is announced, from one claim to the next, and wakes the prefetcher."""

    news: Bell
    """Rings when something has happened on which the next claim may depend."""
    jobs: int = 0
    """How many jobs were announced since the last claim began."""
    _claims: Claims
    _delay: RefetchDelay
    """Ends early if enough jobs are announced."""
    _drains: bool = False
    """Whether the worker ends when nothing is due: then whatever is recorded may have added a job."""

    def add(self, jobs: int) -> None:
        """Announce that there may be so many jobs more to claim."""
        self.jobs += jobs
        self._delay.end_if_over(self.jobs)
        self.news.ring()

    def clear(self) -> None:
        """Count anew: a claim is about to begin."""
        self.jobs = 0

    def queue_freed(self) -> None:
        """Announce the next job of a queue whose job has just been completed."""
        self.add(1)

    def recorded(self, *, freed_a_job: bool) -> None:
        """Announce what an outcome that was just recorded may have let be claimed.

        `freed_a_job` says that it was the job of a queue, or one that was given back.
        """
        if freed_a_job or self._drains or self._claims.may_have_room_again:
            self.add(1)
