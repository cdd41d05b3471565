"""The local queue: claims jobs, holds them until a slot takes them, gives back what nobody took."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.jobs import Job

logger = logging.getLogger("trio_graphile.worker")


@attrs.define(eq=False, kw_only=True)
class LocalQueue:
    """One Trio task claims; slots take. A job is always in exactly one hand: here, or in a slot."""

    _claim: Callable[[int], Awaitable[list[Job]]]
    _reconcile: Callable[[], Awaitable[None]]
    """Gives back what the database says we hold and we do not know of."""
    _give_back: Callable[[Job], None]
    _known: MutableMapping[int, Job]
    """All jobs between their claim and their record, by id; shared with the recorder."""
    _poll_interval: float
    _ending: trio.Event
    _held: deque[Job] = attrs.field(factory=deque)
    _idle_slots: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _room: trio.Event = attrs.field(factory=trio.Event)
    _nudged: trio.Event = attrs.field(factory=trio.Event)
    _closed: bool = False

    async def take(self) -> Job | None:
        """Wait for the next job; None once no more will come.

        Atomic under cancellation: a job that is not returned is still held.
        """
        await trio.lowlevel.checkpoint()
        while not (self._closed or self._ending.is_set()):
            if self._held:
                return self._held.popleft()
            self._room.set()
            await self._idle_slots.park()
        return None

    def nudge(self) -> None:
        """Claim soon: there may be something to claim."""
        self._nudged.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the idle slots in work until cancelled."""
        task_status.started()
        try:
            while True:
                wanted, got = await self._fill()
                if got < wanted:
                    await self._pause()
        finally:
            self._close()

    async def drain(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """As `run`, but end when nothing is due and every job that ran is recorded."""
        task_status.started()
        try:
            while True:
                # Asked before the claim: a job recorded since may have freed its queue or added another.
                nothing_unrecorded = not self._known
                wanted, got = await self._fill()
                if got == 0 and nothing_unrecorded:
                    return
                if got < wanted:
                    await self._pause()
        finally:
            self._close()

    async def _fill(self) -> tuple[int, int]:
        """Wait for an idle slot, then claim for all; return how many were wanted and how many came."""
        while self._wanted() <= 0:
            self._room = trio.Event()
            await self._room.wait()
        await trio.lowlevel.checkpoint()  # other slots that are about to become idle share the claim
        self._nudged = trio.Event()
        wanted = self._wanted()
        jobs = await self._claim_patiently(wanted)
        for job in jobs:
            self._known[job.id] = job
        self._held.extend(jobs)
        self._idle_slots.unpark(count=len(jobs))
        return wanted, len(jobs)

    async def _claim_patiently(self, wanted: int) -> list[Job]:
        """Claim; wait out what passes. A claim that was lost on its way is given back before the next."""
        lost = False
        for delay in backoff_delays(cap=max(self._poll_interval, 1.0)):
            try:
                if lost:
                    await self._reconcile()
                    lost = False
                return await self._claim(wanted)
            except DatabaseError as error:
                if not error.transient:
                    raise
                lost = True
                logger.warning("claiming failed, next try in %.1f s: %s", delay, error)
            await trio.sleep(delay)
        raise AssertionError("backoff_delays never ends")

    async def _pause(self) -> None:
        with trio.move_on_after(self._poll_interval):
            await self._nudged.wait()

    def _wanted(self) -> int:
        return len(self._idle_slots)  # a slot that was woken for a held job has left the lot already

    def _close(self) -> None:
        self._closed = True
        while self._held:
            self._give_back(self._held.popleft())
        self._idle_slots.unpark_all()
