"""Outcomes: the recorder. The first is written at once, those that come meanwhile together (group commit)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import TypeVar

import attrs
import trio

from trio_graphile._database.session import persist
from trio_graphile._exceptions import ConnectionLost
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Completed, Failed, Outcome, Returned

OutcomeT = TypeVar("OutcomeT", Completed, Failed, Returned)
logger = logging.getLogger("trio_graphile.worker")

_MOST_WAITING = 4096
_LARGEST_BATCH = 2000


@attrs.frozen
class Recording:
    """The three statements that record outcomes; each returns the ids of the jobs that were still ours."""

    complete: Callable[[Sequence[Completed]], Awaitable[set[int]]]
    fail: Callable[[Sequence[Failed]], Awaitable[set[int]]]
    give_back: Callable[[Sequence[Returned]], Awaitable[set[int]]]


@attrs.define
class Counts:
    """How many runs ended how."""

    completed: int = 0
    failed: int = 0
    returned: int = 0
    lost: int = 0


@attrs.define(eq=False, kw_only=True)
class Outcomes:
    """Takes outcomes from the slots and writes them. An outcome leaves only once it is written."""

    _recording: Recording
    _known: MutableMapping[int, Job]
    """All jobs between their claim and their record, by id; shared with the local queue."""
    _on_recorded: Callable[[bool], None]
    """Called after each write with whether a queue was freed."""
    counts: Counts = attrs.field(factory=Counts)
    _completed: list[Completed] = attrs.field(factory=list)
    _failed: list[Failed] = attrs.field(factory=list)
    _returned: list[Returned] = attrs.field(factory=list)
    _arrived: trio.Event = attrs.field(factory=trio.Event)
    _written: trio.Event = attrs.field(factory=trio.Event)

    def put(self, outcome: Outcome) -> None:
        """Take an outcome. Neither blocks nor fails, and is no checkpoint."""
        match outcome:
            case Completed():
                self._completed.append(outcome)
            case Failed():
                self._failed.append(outcome)
            case Returned():
                self._returned.append(outcome)
        self._arrived.set()

    async def wait_for_room(self) -> None:
        """Wait while too many outcomes wait to be written: slots that outrun the database pause here."""
        while self._count_waiting() > _MOST_WAITING:
            self._written = trio.Event()
            await self._written.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write outcomes as they come, until cancelled. What is left then is for `flush`."""
        task_status.started()
        while True:
            if self._count_waiting() == 0:
                self._arrived = trio.Event()
                await self._arrived.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write all that wait, however often the database has to be asked.

        Cancelled between two statements it leaves the rest waiting.
        """
        while self._count_waiting() > 0:
            self.counts.completed += await self._write(self._completed, self._recording.complete)
            self.counts.failed += await self._write(self._failed, self._recording.fail)
            self.counts.returned += await self._write(self._returned, self._recording.give_back)

    async def _write(
        self, waiting: list[OutcomeT], record: Callable[[Sequence[OutcomeT]], Awaitable[set[int]]]
    ) -> int:
        """Write the next batch of one kind; return how many were recorded."""
        batch = waiting[:_LARGEST_BATCH]
        if not batch:
            return 0
        certain = True

        async def attempt() -> set[int]:
            nonlocal certain
            try:
                return await record(batch)
            except ConnectionLost:
                certain = False  # it may have been committed: then the next try finds nothing, rightly
                raise

        ours = await persist(attempt, what="recording outcomes")
        del waiting[: len(batch)]
        return self._settle([outcome.job for outcome in batch], ours, certain=certain)

    def _count_waiting(self) -> int:
        return len(self._completed) + len(self._failed) + len(self._returned)

    def _settle(self, jobs: Sequence[Job], ours: set[int], *, certain: bool) -> int:
        """Forget the jobs of a written batch; return how many were recorded."""
        lost = [job for job in jobs if job.id not in ours] if certain else []
        for job in jobs:
            if self._known.get(job.id) is job:  # else it was taken from us and claimed by us again
                del self._known[job.id]
        for job in lost:
            logger.error(
                "job %d (%s) was taken from us while it ran: not recorded", job.id, job.task_identifier
            )
        self.counts.lost += len(lost)
        self._written.set()
        self._on_recorded(any(job.queue_name is not None for job in jobs))
        return len(jobs) - len(lost)
