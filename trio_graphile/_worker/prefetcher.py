"""The prefetcher: decides when to claim, so that slots find jobs in the local queue.

What it does next is decided in `_model.local_queue`; here it is done.
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
    """One Trio task that claims, and nobody else does."""

    _queue: LocalQueue
    _claims: Claims
    _ledger: Ledger
    _announcements: Announcements
    _term: LeaseTerm
    _options: LocalQueueOptions
    _poll_interval: float
    """How long after a claim that came back short there is another if nothing is announced, in seconds."""
    _delay: RefetchDelay
    _claim_at: float = attrs.field(init=False, default=-math.inf)
    """When the next claim is allowed if nothing happens before, by Trio's clock."""
    _suspended: bool = attrs.field(init=False, default=False)
    _resting: trio.CancelScope = attrs.field(init=False)  # noqa: TID251  # as `move_on_at`, for less
    """Has a deadline during a rest, and is left when that has passed: one for each rest would cost more."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the slots in work until cancelled. Raises `DatabaseError` for what does not pass."""
        task_status.started()
        await self._serve(drains=False)

    @trio.lowlevel.enable_ki_protection
    async def drain(self) -> None:
        """As `run`, but end when nothing is due and every job that ran is recorded."""
        await self._serve(drains=True)

    def suspend(self) -> None:
        """Give back what is held and claim nothing until `resume`."""
        self._suspended = True
        self._queue.give_back(Occasion.TIME_TO_LIVE_OVER)

    def resume(self) -> None:
        """Claim again."""
        self._suspended = False
        self._have_slots_ask()  # they asked while nobody listened
        self._announcements.add(1)

    def lapsed(self) -> None:
        """Give back what is held, and what a claim that is under way brings: others may have had it."""
        self._ledger.lapsed()
        self._queue.give_back(Occasion.TIME_TO_LIVE_OVER)
        self._have_slots_ask()

    def lease_renewed(self) -> None:
        """Look again at what to do: while the lease did not hold, nothing was claimed."""
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
                        # Before the claim: what is recorded meanwhile may free a queue, or have added a job.
                        none_unrecorded, step = not self._ledger.has_unended, self._decide()
                        came = await self._act(step)
                        is_drained = drains and none_unrecorded and came == 0 and isinstance(step, Claim)
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
        """When the next claim is allowed: at once if there is something to be had and no refetch delay."""
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
                    await trio.lowlevel.checkpoint()  # slots that are about to become idle share the claim
            case _:
                assert_never(step)
        return 0

    async def _fill(self, limit: int) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()  # what is not sent leaves no doubt
        self._delay.end(self._announcements.jobs)
        self._announcements.clear()
        jobs = await self._claims.claim(limit)
        now = trio.current_time()
        self._queue.put(jobs)
        if len(jobs) >= limit:
            self._claim_at = -math.inf
        else:
            self._claim_at = now + self._poll_interval
            self._delay.begin(len(jobs), now)
            self._delay.end_if_over(self._announcements.jobs)  # those that were announced meanwhile
        return len(jobs)
