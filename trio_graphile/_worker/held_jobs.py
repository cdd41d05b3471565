"""The jobs that a local queue holds, in the order in which they are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import merge
from operator import attrgetter

from trio_graphile._model.jobs import Job

_place = attrgetter("priority", "run_at", "id")


class HeldJobs(deque[Job]):
    """Jobs, best first. Jobs leave at the left, once for each that is run: so it is a deque."""

    __slots__ = ()

    def add(self, jobs: Sequence[Job]) -> None:
        """Put in jobs that are in order, each in its place.

        Those of a later claim are nearly always the later ones, which a look at the seam says.
        """
        if self and jobs and _place(jobs[0]) < _place(self[-1]):
            jobs = list(merge(self, jobs, key=_place))
            self.clear()
        self.extend(jobs)
