"""Announcements: how many jobs were announced since the last claim began, and may be there to be claimed."""

from __future__ import annotations

import attrs

from trio_graphile._model.bell import Bell
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.refetch_delay import RefetchDelay


@attrs.define(eq=False, kw_only=True)
class Announcements:
    """Counts the jobs that are announced between one claim and the next, and wakes the prefetcher."""

    news: Bell
    """Rings when something has happened that may change when the next claim is made."""
    jobs: int = 0
    """How many jobs were announced since the last claim began."""
    _claims: Claims
    _delay: RefetchDelay
    """Ends early if enough jobs are announced."""
    _drains: bool = False
    """Whether the worker ends when nothing is due. It then listens to nobody, so each outcome that is
    recorded announces a job: the handler may have added one."""

    def add(self, jobs: int) -> None:
        """Announce that so many more jobs may be there to be claimed. Never blocks, and is no checkpoint."""
        self.jobs += jobs
        self._delay.end_if_over(self.jobs)
        self.news.ring()

    def clear(self) -> None:
        """Count from zero: a claim is about to begin."""
        self.jobs = 0

    def queue_freed(self) -> None:
        """Announce that the next job of a named queue may run: a handler has completed the one before."""
        self.add(1)

    def recorded(self, *, freed_a_job: bool) -> None:
        """Announce a job if the outcome that was just recorded may have made one claimable.

        `freed_a_job` says that the outcome belongs to a job of a named queue, or to one that was given back.
        """
        if freed_a_job or self._drains or self._claims.may_have_room_again:
            self.add(1)
