"""The local queue: holds claimed jobs until slots take them, and gives back those that no slot takes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Sequence

import attrs
import trio

from trio_graphile._model.jobs import Job
from trio_graphile._model.local_queue import Mode, Occasion, next_mode, refill_mark
from trio_graphile._model.options import LocalQueueOptions
from trio_graphile._model.outcomes import Returned
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.held_jobs import HeldJobs
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.slots import IdleSlots
from trio_graphile.hooks._worker_events import LocalQueueModeChanged

logger = logging.getLogger("trio_graphile.worker")

_RELEASED = Mode.RELEASED
"""The member itself: on Python 3.11, to look it up in its class takes 40 ns, and each job does it once."""


@attrs.define(eq=False, kw_only=True)
class LocalQueue:
    """The prefetcher puts jobs in, slots take them out. A job is held here or by one slot, never by both."""

    _options: LocalQueueOptions
    _ledger: Ledger
    """Is told which jobs were taken from us before they ran."""
    _recorder: Recorder
    """Records the jobs that are given back. Slots wait while it is full."""
    _announcements: Announcements
    _term: LeaseTerm
    """Says whether the jobs are still ours: they are not if the process was suspended for too long, say."""
    _ending: trio.Event
    _emitter: Emitter
    mode: Mode = attrs.field(init=False, default=Mode.STARTING)
    expires_at: float = attrs.field(init=False, default=math.inf)
    """When the jobs that are held have to be given back, by Trio's clock."""
    has_given_back: bool = attrs.field(init=False, default=False)
    """Whether jobs were given back since the last claim. They can be claimed again, so the next claim does
    not wait for a poll."""
    _held: HeldJobs = attrs.field(init=False, factory=HeldJobs)
    _idle: IdleSlots = attrs.field(init=False, factory=IdleSlots)
    _refill_mark: int = attrs.field(init=False)
    _first_room: int = attrs.field(init=False)
    """How many jobs are held when there is room for exactly one more."""

    def __attrs_post_init__(self) -> None:
        self._refill_mark, self._first_room = refill_mark(self._options.size), self._options.size - 1

    @property
    def held(self) -> int:
        """How many jobs are held."""
        return len(self._held)

    @property
    def idle(self) -> int:
        """How many slots wait for a job, without those that were woken to take one."""
        return len(self._idle)

    # --- for slots ------------------------------------------------------------------------------

    async def take(self) -> Job | None:
        """Wait for the next job and return it; return None once no more will come.

        When it is cancelled, it has taken no job. While there are jobs, it is a checkpoint only every 0.3 ms:
        one takes longer than many a handler.
        """
        if self._recorder.is_full:
            await self._recorder.wait_for_room()
        if time.monotonic() > self._idle.stretch_ends_at:
            await self._idle.give_way()
        was_idle = False
        while self.mode is not _RELEASED and not self._ending.is_set():
            if not self._held:
                self.happened(Occasion.SLOT_ASKED)
            elif not self._term.holds():
                self.give_back(Occasion.TIME_TO_LIVE_OVER)
                self.happened(Occasion.SLOT_ASKED)
            elif self._idle.giving_way:
                self._idle.found_none()
            else:
                if was_idle:
                    self._idle.found_work()
                return self._hand_out()
            await self._idle.wait()
            was_idle = True
        return None

    def _hand_out(self) -> Job:
        held, idle = self._held, self._idle
        job = held.popleft()
        left = len(held)
        if left == 0:
            self.happened(Occasion.LAST_TAKEN)
            return job
        if idle.waking < idle.most_waking:  # as `wake` asks: saves a call per job
            idle.wake(left)
        if left == self._refill_mark or (left == self._first_room and self._announcements.jobs):
            self._announcements.news.ring()
        return job

    def withdraw(self, job: Job) -> bool:
        """Take one job out, whose outcome the caller records; return whether it was held."""
        if not any(held is job for held in self._held):
            return False
        self._held.remove(job)
        if not self._held:
            self.happened(Occasion.LAST_TAKEN)
        return True

    def drop(self, lost: Collection[Job]) -> None:
        """Drop those of these jobs that are held: they are not ours any more."""
        for job in lost:
            if self.withdraw(job):
                self._ledger.dropped(job)
                logger.warning("job %d (%s) was taken from us before it ran", job.id, job.task_identifier)

    # --- for the prefetcher ---------------------------------------------------------------------

    def put(self, jobs: Sequence[Job]) -> None:
        """Hold the jobs of a claim, in the order of all that are held, and wake slots for them."""
        self.has_given_back = False
        if not jobs:
            return
        if len(self._held) <= self._refill_mark:  # else the jobs that are held keep their time to live
            self.expires_at = trio.current_time() + self._options.ttl
        self._held.add(jobs)
        self.happened(Occasion.JOBS_CAME)
        self._idle.begin_stretch()  # the claim was the turn of the others
        self._idle.wake(len(self._held))

    def give_back(self, occasion: Occasion) -> None:
        """Give back all jobs that are held; `occasion` says why."""
        while self._held:
            self._recorder.put(Returned(self._held.popleft()))
        self.has_given_back = True
        self.happened(occasion)

    def release(self) -> None:
        """Give back all jobs that are held; from now on, `take` returns None."""
        self.give_back(Occasion.RELEASE)
        self._idle.wake_all()

    def happened(self, occasion: Occasion) -> None:
        """Change the mode by what has happened, and have the prefetcher look at it."""
        old, self.mode = self.mode, next_mode(self.mode, occasion)
        self._announcements.news.ring()
        if old is not self.mode:
            self._emitter.emit(LocalQueueModeChanged, old=old, new=self.mode)
