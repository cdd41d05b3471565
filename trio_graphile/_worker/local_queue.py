"""The local queue: holds jobs that were claimed until a slot takes them, and gives back what nobody took."""

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


@attrs.define(eq=False, kw_only=True)
class LocalQueue:
    """The prefetcher puts jobs in, slots take them. A job is always in one hand: here, or in a slot's."""

    _options: LocalQueueOptions
    _ledger: Ledger
    """Hears what was taken from us before it ran."""
    _recorder: Recorder
    """Takes what is given back; while it is full, slots wait."""
    _announcements: Announcements
    _term: LeaseTerm
    """Says whether what is held is still ours: not if the whole process was suspended for too long, say."""
    _ending: trio.Event
    _emitter: Emitter
    mode: Mode = attrs.field(init=False, default=Mode.STARTING)
    expires_at: float = attrs.field(init=False, default=math.inf)
    """When what is held has not been taken for too long, by Trio's clock."""
    has_given_back: bool = attrs.field(init=False, default=False)
    """Whether jobs were given back since the last claim: these are to be had, so the next need not wait."""
    _held: HeldJobs = attrs.field(init=False, factory=HeldJobs)
    _idle: IdleSlots = attrs.field(init=False, factory=IdleSlots)
    _refill_mark: int = attrs.field(init=False)
    _first_room: int = attrs.field(init=False)
    """How many are held when there is room for one more."""

    def __attrs_post_init__(self) -> None:
        self._refill_mark, self._first_room = refill_mark(self._options.size), self._options.size - 1

    @property
    def held(self) -> int:
        """How many jobs are held."""
        return len(self._held)

    @property
    def idle(self) -> int:
        """How many slots wait for a job. One that was woken for a held job is not among them."""
        return len(self._idle)

    # --- for slots ------------------------------------------------------------------------------

    async def take(self) -> Job | None:
        """Wait for the next job; None once no more will come.

        Atomic under cancellation: a job that is not returned is still held. A checkpoint, but while there are
        jobs only one in a while: to give way costs more than many a handler.
        """
        if self._recorder.is_full:
            await self._recorder.wait_for_room()
        if time.monotonic() > self._idle.stretch_ends_at:
            await self._idle.give_way()
        was_idle = False
        while self.mode is not Mode.RELEASED and not self._ending.is_set():
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
        job = self._held.popleft()
        if not self._held:
            self.happened(Occasion.LAST_TAKEN)
        else:
            held = len(self._held)
            if self._idle.waking < self._idle.most_waking:  # asked here, too: a call less for each job
                self._idle.wake(held)
            if held == self._refill_mark or (held == self._first_room and self._announcements.jobs):
                self._announcements.news.ring()
        return job

    def withdraw(self, job: Job) -> bool:
        """Let go of a held job, for somebody else to say what becomes of it; return whether it was held."""
        if not any(held is job for held in self._held):
            return False
        self._held.remove(job)
        if not self._held:
            self.happened(Occasion.LAST_TAKEN)
        return True

    def drop(self, lost: Collection[Job]) -> None:
        """Forget those of these jobs that are held: they are not ours any more."""
        for job in lost:
            if self.withdraw(job):
                self._ledger.dropped(job)
                logger.warning("job %d (%s) was taken from us before it ran", job.id, job.task_identifier)

    # --- for the prefetcher ---------------------------------------------------------------------

    def put(self, jobs: Sequence[Job]) -> None:
        """Hold jobs that a claim has brought, each in its place, and have slots come for them."""
        self.has_given_back = False
        if not jobs:
            return
        if len(self._held) <= self._refill_mark:  # else the time of what is held goes on
            self.expires_at = trio.current_time() + self._options.ttl
        self._held.add(jobs)
        self.happened(Occasion.JOBS_CAME)
        self._idle.begin_stretch()  # this is the others' turn
        self._idle.wake(len(self._held))

    def give_back(self, occasion: Occasion) -> None:
        """Give back all that is held, since this has happened."""
        while self._held:
            self._recorder.put(Returned(self._held.popleft()))
        self.has_given_back = True
        self.happened(occasion)

    def release(self) -> None:
        """Give back all that is held, and let slots know that nothing will come any more."""
        self.give_back(Occasion.RELEASE)
        self._idle.wake_all()

    def happened(self, occasion: Occasion) -> None:
        """Take notice of what has happened."""
        old, self.mode = self.mode, next_mode(self.mode, occasion)
        self._announcements.news.ring()
        if old is not self.mode:
            self._emitter.emit(LocalQueueModeChanged, old=old, new=self.mode)
