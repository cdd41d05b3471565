"""Held jobs: those of a local queue, in the order in which slots take them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import merge
from operator import attrgetter

from trio_graphile._model.jobs import Job

_place = attrgetter("priority", "run_at", "id")


class HeldJobs(deque[Job]):
    """Jobs, the next one first. A deque, since each job leaves at the left."""

    __slots__ = ()

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs that are in order, each in its place.

        Nearly always, all of them come after those that are held: one comparison shows that.
        """
        if self and jobs and _place(jobs[0]) < _place(self[-1]):
            jobs = list(merge(self, jobs, key=_place))
            self.clear()
        self.extend(jobs)
