"""The prefetcher: claims jobs ahead, so that slots find them in the local queue.

`_model.local_queue` decides what to do next; the prefetcher does it.
"""

from __future__ import annotations

import math
from typing import assert_never

import attrs
import trio

from trio_graphile._model.local_queue import Claim, GiveBack, Occasion, Rest, Situation, Step, next_step
from trio_graphile._model.options import LocalQueueOptions
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.refetch_delay import RefetchDelay


@attrs.define(eq=False, kw_only=True)
class Prefetcher:
    """The one Trio task that claims."""

    _queue: LocalQueue
    _claims: Claims
    _ledger: Ledger
    _announcements: Announcements
    _term: LeaseTerm
    _options: LocalQueueOptions
    _poll_interval: float
    """How long after a claim that brought fewer jobs than its limit the next one is made at the latest, in
    seconds. It is made sooner if jobs are announced, or if the claim did not look everywhere."""
    _delay: RefetchDelay
    _claim_at: float = attrs.field(init=False, default=-math.inf)
    """When the next claim is allowed if no job is announced or given back before, by Trio's clock."""
    _suspended: bool = attrs.field(init=False, default=False)
    _resting: trio.CancelScope = attrs.field(init=False)  # noqa: TID251  # as `move_on_at`, for less
    """Its deadline ends a rest. One scope serves many rests, since making one takes time."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim until cancelled. Raises `DatabaseError` for errors that are not transient."""
        task_status.started()
        await self._serve(drains=False)

    @trio.lowlevel.enable_ki_protection
    async def drain(self) -> None:
        """Claim until no job is due and the outcome of every run is recorded. Raises as `run`."""
        await self._serve(drains=True)

    def suspend(self) -> None:
        """Give back all jobs that are held, and claim none until `resume`."""
        self._suspended = True
        self._queue.give_back(Occasion.TIME_TO_LIVE_OVER)

    def resume(self) -> None:
        """Claim again after `suspend`."""
        self._suspended = False
        self._have_slots_ask()  # they asked while the prefetcher was suspended
        self._announcements.add(1)

    def lapsed(self) -> None:
        """Give back all jobs that are held or that a claim under way brings: others may have taken them."""
        self._ledger.lapsed()
        self._queue.give_back(Occasion.TIME_TO_LIVE_OVER)
        self._have_slots_ask()

    def lease_renewed(self) -> None:
        """Decide anew: nothing was claimed while the lease did not hold."""
        self._announcements.news.ring()

    def _have_slots_ask(self) -> None:
        if self._queue.idle:
            self._queue.happened(Occasion.SLOT_ASKED)

    async def _serve(self, *, drains: bool) -> None:
        self._queue.happened(Occasion.START)
        is_drained = False
        try:
            while not is_drained:
                with trio.CancelScope() as self._resting:  # noqa: TID251  # as `move_on_at`, for less; no shield
                    while not (is_drained or self._resting.cancel_called):
                        # Asked before the claim: a job that is recorded during the claim may free a named
                        # queue, or have added another.
                        none_unrecorded, step = not self._ledger.has_unended, self._decide()
                        came = await self._act(step)
                        found_none = isinstance(step, Claim) and came == 0
                        if drains and none_unrecorded and found_none:
                            is_drained = self._claims.look_again_at == math.inf
                            if not is_drained:
                                self._claims.look_everywhere()
                                self._claim_at = -math.inf
        finally:
            self._queue.release()

    def _decide(self) -> Step:
        if self._suspended or not self._term.holds():
            return Rest(math.inf)  # until the lease is renewed, or `resume`
        queue, claimed_at = self._queue, self._claims.ended_at
        return next_step(
            Situation(
                mode=queue.mode,
                now=trio.current_time(),
                idle_slots=queue.idle,
                held=queue.held,
                size=self._options.size,
                is_announced=self._announcements.jobs > 0,
                claimed_at=-math.inf if claimed_at is None else claimed_at,
                claim_at=self._next_claim_at,
                expires_at=queue.expires_at,
            )
        )

    @property
    def _next_claim_at(self) -> float:
        """When the next claim is allowed: after jobs were given back, at once."""
        if self._queue.has_given_back:
            return -math.inf
        return min(self._claim_at, self._delay.until) if self._announcements.jobs else self._claim_at

    async def _act(self, step: Step) -> int:
        """Do what was decided; return how many jobs came."""
        match step:
            case Claim(limit):
                return await self._fill(limit)
            case GiveBack():
                self._queue.give_back(Occasion.TIME_TO_LIVE_OVER)
            case Rest(until):
                self._resting.deadline = until
                await self._announcements.news.wait()
                self._resting.deadline = math.inf
                if not self._ledger.is_empty:
                    await trio.lowlevel.checkpoint()  # slots that become idle in this turn share the claim
            case _:
                assert_never(step)
        return 0

    async def _fill(self, limit: int) -> int:
        self._delay.end(self._announcements.jobs)
        self._announcements.clear()
        jobs = await self._claims.claim(limit)
        now = trio.current_time()
        self._queue.put(jobs)
        if len(jobs) >= limit:
            self._claim_at = -math.inf
        else:
            self._delay.begin(len(jobs), now)
            look_again_at = max(self._claims.look_again_at, self._delay.until)
            self._claim_at = min(now + self._poll_interval, look_again_at)
            self._delay.end_if_over(self._announcements.jobs)  # jobs may have been announced during the claim
        return len(jobs)
