"""Points: the state of the queue within the last hour, kept in memory for charts."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import attrs
import trio

from trio_graphile._database.database import Database
from trio_graphile._database.samples import count_changes, sample_of
from trio_graphile._model.listing import StateCounts
from trio_graphile._model.recovery import ActiveWorker
from trio_graphile._model.samples import FleetRuns, Sample, gained, runs_of

_REMEMBERED = timedelta(hours=1)


@attrs.frozen(kw_only=True)
class Look:
    """The state of the queue at one moment."""

    counts: StateCounts
    workers: tuple[ActiveWorker, ...]

    def differs_from(self, other: Look | None) -> bool:
        """Whether a page would show two looks differently."""
        if other is None:
            return True
        at = self.counts.counted_at
        said = [(worker.worker_id, worker.metadata, worker.is_stale) for worker in self.workers]
        was_said = [(worker.worker_id, worker.metadata, worker.is_stale) for worker in other.workers]
        return said != was_said or self.counts != attrs.evolve(other.counts, counted_at=at)


@attrs.define(eq=False, kw_only=True)
class Points:
    """Samples in memory, at least ten seconds apart, while somebody watches."""

    _database: Database
    _interval: float = 10.0
    """The time between two samples, in seconds."""
    _most: int = 1000
    """A limit, since samples are kept for longer if the clock of the server is set back."""
    _samples: deque[Sample] = attrs.field(init=False)
    _totals: FleetRuns | None = attrs.field(init=False, default=None)
    """The totals of runs at the last sample."""
    _due_at: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._samples = deque(maxlen=self._most)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples of the last hour that are only in memory."""
        return tuple(self._samples)

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next sample."""
        return trio.current_time() >= self._due_at

    async def remember(self, look: Look) -> None:
        """Keep a look, with the changes since the last. Raises `DatabaseError`."""
        self._due_at = trio.current_time() + self._interval
        inserted, deleted = await count_changes(self._database)
        totals = {worker.worker_id: runs for worker in look.workers if (runs := runs_of(worker.metadata))}
        tasks = None if self._totals is None else gained(self._totals, totals)
        self._totals = totals
        sample = attrs.evolve(sample_of(look.counts), inserted=inserted, deleted=deleted, tasks=tasks)
        self._samples.append(sample)
        while sample.at - self._samples[0].at > _REMEMBERED:
            self._samples.popleft()
