"""The local queue: claims jobs, holds them until a slot takes them, gives back what nobody took.

What it does next is decided in `_model.local_queue`; here it is done.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import assert_never

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.jobs import Job
from trio_graphile._model.local_queue import (
    Claim,
    GiveBack,
    Mode,
    Occasion,
    Rest,
    Situation,
    Step,
    draw_abort_threshold,
    next_mode,
    next_step,
    refill_mark,
)
from trio_graphile._model.options import LocalQueueOptions
from trio_graphile._worker.bell import Bell
from trio_graphile._worker.held_jobs import HeldJobs
from trio_graphile._worker.ledger import Ledger
from trio_graphile.hooks._event import Teller
from trio_graphile.hooks._worker_events import (
    ClaimFailed,
    JobsClaimed,
    LocalQueueModeChanged,
    RefetchDelayAborted,
    RefetchDelayExpired,
    RefetchDelayStarted,
)

logger = logging.getLogger("trio_graphile.worker")

_LONGEST_STRETCH = 0.0003
"""For how long slots may run brief jobs before they give way to others, in seconds."""
_MOST_WAKING = 8


@attrs.define(eq=False, kw_only=True)
class LocalQueue:
    """One Trio task claims; slots take. A job is always in exactly one hand: here, or in a slot's."""

    _claim: Callable[[int], Awaitable[list[Job]]]
    _reconcile: Callable[[], Awaitable[None]]
    """Gives back what the database says we hold and we do not know of."""
    _give_back: Callable[[Job], None]
    _ledger: Ledger
    """Hears what is claimed, and what was taken from us before it ran."""
    _poll_interval: float
    _reconcile_interval: float
    """How often to reconcile without cause, in seconds: no row is stuck for longer, whatever went wrong."""
    _ending: trio.Event
    _lease_holds: Callable[[], bool]
    """Whether what we hold is still ours: not if the whole process was suspended for too long, say."""
    _options: LocalQueueOptions
    _teller: Teller | None = None
    """Whom to tell of claims and modes, if anybody wants to know."""
    _mode: Mode = Mode.STARTING
    _held: HeldJobs = attrs.field(factory=HeldJobs)
    _idle_slots: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _woken: Bell = attrs.field(factory=Bell)
    """Something happened on which the next step may depend."""
    _resting: trio.CancelScope = attrs.field(init=False)  # noqa: TID251  # as `move_on_at`, for less
    """Has a deadline during a rest, and is left when that has passed: one for each rest would cost more."""
    _claim_at: float = -math.inf
    _expires_at: float = math.inf
    _delayed_until: float = -math.inf
    _announced: int = 0
    """How many jobs were announced since the last claim began."""
    _enough_announced: float = math.inf
    """How many of them end a refetch delay early."""
    _waking: int = 0
    """How many slots were woken and have not come yet."""
    _most_waking: int = 1
    """How many may be on their way at a time: more while there is work for those who come."""
    _stretch_ends_at: float = -math.inf
    """Until when a slot may take jobs without giving way to others."""
    _giving_way: int = 0
    """How many slots let others have their turn, and take a job then."""
    _suspended: bool = False
    claiming_since: float | None = None
    """When the claim that is under way began, its repetitions included; None if none is."""
    claimed_at: float | None = None
    """When the last claim came back."""
    _reconcile_at: float = attrs.field(init=False)
    _refill_mark: int = attrs.field(init=False)
    _first_room: int = attrs.field(init=False)
    """How many are held when there is room for one more."""

    def __attrs_post_init__(self) -> None:
        self._refill_mark, self._first_room = refill_mark(self._options.size), self._options.size - 1
        self._reconcile_at = trio.current_time() + self._reconcile_interval

    @property
    def held(self) -> int:
        """How many jobs are held."""
        return len(self._held)

    @property
    def idle(self) -> int:
        """How many slots wait for a job."""
        return len(self._idle_slots)

    async def take(self) -> Job | None:
        """Wait for the next job; None once no more will come.

        Atomic under cancellation: a job that is not returned is still held. A checkpoint, but while there are
        jobs only one in a while: to give way costs more than many a handler.
        """
        if time.monotonic() > self._stretch_ends_at:
            await self._give_way()
        was_idle = False
        while self._mode is not Mode.RELEASED and not self._ending.is_set():
            if not self._held:
                self._happened(Occasion.SLOT_ASKED)
            elif not self._lease_holds():
                self._release_held(Occasion.TIME_TO_LIVE_OVER)
                self._happened(Occasion.SLOT_ASKED)
            elif not self._giving_way:  # else that slot is about to go on, and wakes us if it needs help
                if was_idle:
                    self._most_waking = min(2 * self._most_waking, _MOST_WAKING)
                return self._hand_out()
            else:
                self._most_waking = 1
            await self._idle_slots.park()
            self._waking -= 1
            was_idle = True
        return None

    async def _give_way(self) -> None:
        """Let others have their turn, claims and records above all, and begin a new stretch."""
        self._giving_way += 1
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._giving_way -= 1
        self._stretch_ends_at = time.monotonic() + _LONGEST_STRETCH

    def announce(self, jobs: int) -> None:
        """Take notice that there may be so many jobs more to claim."""
        self._announced += jobs
        now = trio.current_time()
        if now >= self._delayed_until or self._announced >= self._enough_announced:
            if self._teller is not None:
                self._tell_end_of_delay(self._teller, now)
            self._claim_at = self._delayed_until = -math.inf
        else:
            self._claim_at = min(self._claim_at, self._delayed_until)
        self._woken.ring()

    def _drop(self, lost: Collection[Job]) -> None:
        for job in lost:
            if self.withdraw(job):
                self._ledger.dropped(job)
                logger.warning("job %d (%s) was taken from us before it ran", job.id, job.task_identifier)

    def withdraw(self, job: Job) -> bool:
        """Let go of a held job, for somebody else to say what becomes of it; return whether it was held."""
        if not any(held is job for held in self._held):
            return False
        self._held.remove(job)
        if not self._held:
            self._happened(Occasion.LAST_TAKEN)
        return True

    def renewed(self, lost: Collection[Job]) -> None:
        """Take notice that the lease was renewed; forget held jobs that are not ours any more."""
        self._drop(lost)
        self._woken.ring()

    def lapsed(self) -> None:
        """Give back what is held, and what a claim that is under way brings: others may have had it."""
        self._ledger.lapsed()
        self._release_held(Occasion.TIME_TO_LIVE_OVER)
        if self._idle_slots:
            self._happened(Occasion.SLOT_ASKED)

    def suspend(self) -> None:
        """Give back what is held and claim nothing until `resume`."""
        self._suspended = True
        self._release_held(Occasion.TIME_TO_LIVE_OVER)

    def resume(self) -> None:
        """Claim again."""
        self._suspended = False
        if self._idle_slots:
            self._happened(Occasion.SLOT_ASKED)  # they asked while nobody listened
        self.announce(1)

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the slots in work until cancelled."""
        task_status.started()
        await self._serve(drains=False)

    @trio.lowlevel.enable_ki_protection
    async def drain(self) -> None:
        """As `run`, but end when nothing is due and every job that ran is recorded."""
        await self._serve(drains=True)

    async def _serve(self, *, drains: bool) -> None:
        self._happened(Occasion.START)
        is_drained = False
        try:
            while not is_drained:
                with trio.CancelScope() as self._resting:  # noqa: TID251  # as `move_on_at`, for less; no shield
                    while not (is_drained or self._resting.cancel_called):
                        # Before the claim: what is recorded meanwhile may free a queue, or have added a job.
                        none_unrecorded, step = not self._ledger.has_unended, self._decide()
                        came = await self._act(step)
                        is_drained = drains and none_unrecorded and came == 0 and isinstance(step, Claim)
        finally:
            self._release_held(Occasion.RELEASE)
            self._waking += len(self._idle_slots.unpark_all())

    def _decide(self) -> Step:
        if self._suspended or not self._lease_holds():
            return Rest(math.inf)  # until `renewed` or `resume`
        return next_step(
            Situation(
                mode=self._mode,
                now=trio.current_time(),
                idle_slots=len(self._idle_slots),  # one that was woken for a held job is not among them
                held=len(self._held),
                size=self._options.size,
                is_announced=self._announced > 0,
                claimed_at=-math.inf if self.claimed_at is None else self.claimed_at,
                claim_at=self._claim_at,
                expires_at=self._expires_at,
            )
        )

    async def _act(self, step: Step) -> int:
        """Do what was decided; return how many jobs came."""
        match step:
            case Claim(limit):
                return await self._fill(limit)
            case GiveBack():
                self._release_held(Occasion.TIME_TO_LIVE_OVER)
            case Rest(until):
                self._resting.deadline = until
                await self._woken.wait()
                self._resting.deadline = math.inf
                if not self._ledger.is_empty:
                    await trio.lowlevel.checkpoint()  # slots that are about to become idle share the claim
            case _:
                assert_never(step)
        return 0

    async def _fill(self, limit: int) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()  # what is not sent leaves no doubt
        began = self.claiming_since = trio.current_time()
        if self._teller is not None:
            self._tell_end_of_delay(self._teller, began)
        self._announced = 0
        self._ledger.claim_sent()
        try:
            jobs = await self._claim_patiently(limit)
        finally:
            self.claiming_since = None
        now = self.claimed_at = trio.current_time()
        if (to := self._teller) is not None:
            to.tell(JobsClaimed(worker_id=to.worker_id, count=len(jobs), limit=limit, duration=now - began))
        self._ledger.claimed(jobs)
        if jobs:
            if len(self._held) <= self._refill_mark:  # else the time of what is held goes on
                self._expires_at = now + self._options.ttl
            self._held.add(jobs)
            self._happened(Occasion.JOBS_CAME)
            self._stretch_ends_at = time.monotonic() + _LONGEST_STRETCH  # this is the others' turn
            self._wake_slots()
        self._claim_at = -math.inf if len(jobs) >= limit else now + self._poll_interval
        if len(jobs) < limit:
            self._delay_next_claim(len(jobs), now)
        return len(jobs)

    def _delay_next_claim(self, came: int, now: float) -> None:
        """After a claim that came back short: what was announced meanwhile counts, and a delay may start."""
        delay = self._options.refetch_delay
        if delay is not None and came <= delay.threshold:
            self._delayed_until = now + delay.duration * random.uniform(0.5, 1.5)  # noqa: S311  # spreads a fleet
            self._enough_announced = draw_abort_threshold(delay, self._options.size)
            if self._teller is not None:
                self._teller.tell(
                    RefetchDelayStarted(
                        worker_id=self._teller.worker_id,
                        duration=self._delayed_until - now,
                        threshold=delay.threshold,
                        abort_threshold=self._enough_announced,
                    )
                )
        if self._announced:
            self.announce(0)

    def _tell_end_of_delay(self, teller: Teller, now: float) -> None:
        """Tell, once for each refetch delay, that it is over."""
        if self._delayed_until == -math.inf:
            return
        if now >= self._delayed_until:
            teller.tell(RefetchDelayExpired(worker_id=teller.worker_id))
        else:
            teller.tell(
                RefetchDelayAborted(
                    worker_id=teller.worker_id,
                    count=self._announced,
                    abort_threshold=self._enough_announced,
                )
            )
        self._delayed_until = -math.inf

    async def _claim_patiently(self, limit: int) -> list[Job]:
        """Claim; wait out what passes. A claim that was lost on its way is given back before the next."""
        lost = trio.current_time() >= self._reconcile_at
        lapses = self._ledger.lapses
        for delay in backoff_delays(cap=max(self._poll_interval, 1.0)):
            try:
                if lost:
                    await self._reconcile()
                    self._reconcile_at = trio.current_time() + self._reconcile_interval
                    lost = False
                jobs = await self._claim(limit)
                if not jobs or self._ledger.lapses == lapses:
                    return jobs
                # As good as lost: others may have had them meanwhile.
                lost, lapses = True, self._ledger.lapses
            except DatabaseError as error:
                if not error.transient:
                    raise
                lost = True
                logger.warning("claiming failed, next try in %.1f s: %s", delay, error)
                if self._teller is not None:
                    self._teller.tell(
                        ClaimFailed(worker_id=self._teller.worker_id, error=str(error), retry_in=delay)
                    )
            await trio.sleep(delay)
        raise AssertionError("backoff_delays never ends")

    def _hand_out(self) -> Job:
        job = self._held.popleft()
        if not self._held:
            self._happened(Occasion.LAST_TAKEN)
        else:
            if self._waking < self._most_waking:  # asked here, too: a call less for each job
                self._wake_slots()
            held = len(self._held)
            if held == self._refill_mark or (held == self._first_room and self._announced):
                self._woken.ring()
        return job

    def _wake_slots(self) -> None:
        """Have a few slots come for what is held; each wakes further ones when it takes a job.

        Jobs may be so brief that the first takes them all, and to wake a slot costs more than to run one.
        """
        if self._waking < self._most_waking and self._idle_slots:
            count = min(self._most_waking - self._waking, len(self._held))
            self._waking += len(self._idle_slots.unpark(count=count))

    def _release_held(self, occasion: Occasion) -> None:
        while self._held:
            self._give_back(self._held.popleft())
        self._claim_at = -math.inf  # these are to be had: whoever asks next need not wait for a poll
        self._happened(occasion)

    def _happened(self, occasion: Occasion) -> None:
        old, self._mode = self._mode, next_mode(self._mode, occasion)
        self._woken.ring()
        if self._teller is not None and old is not self._mode:
            self._teller.tell(
                LocalQueueModeChanged(worker_id=self._teller.worker_id, old=old, new=self._mode)
            )
