"""Claims: asks the database for jobs that this worker may run, and tries again while that fails."""

from __future__ import annotations

import logging

import attrs
import trio

from trio_graphile._database import unknown_locks
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._database.connection import Executor
from trio_graphile._database.locks import fast_acquire
from trio_graphile._database.session import Session
from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.bounds import Bound
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import WorkerOptions
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.claim_rules import claim_rules
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.ledger import Ledger
from trio_graphile.hooks._worker_events import ClaimFailed, JobsClaimed

logger = logging.getLogger("trio_graphile.worker")


@attrs.define(eq=False, kw_only=True)
class Claims:
    """Claims jobs and enters them in the ledger; one claim at a time."""

    _claimer: Claimer
    _session: Session
    """The session of the claimer."""
    _ledger: Ledger
    _tasks: TaskRegistry
    _options: WorkerOptions
    _worker_id: str
    _emitter: Emitter
    pending_since: float | None = None
    """When the claim that is under way began, with all its attempts, by Trio's clock; None if none is."""
    ended_at: float | None = None
    """When the last claim was answered, by Trio's clock; None if none was."""
    _times_opened: int = attrs.field(init=False, default=1)
    """How often the session had been opened at the last reconciliation, or once."""
    _queues_in_doubt: int = attrs.field(init=False, default=0)
    """How many the ledger knew of at the last reconciliation."""
    _is_sent: bool = attrs.field(init=False, default=False)
    """Whether the ledger knows of the claim that is under way."""

    async def claim(self, limit: int) -> list[Job]:
        """Claim up to `limit` jobs; try again after each transient error.

        Raises `DatabaseError` for every other error. If it raises or is cancelled after it was sent, the
        ledger is left uncertain: the database may have locked jobs for us.
        """
        self.pending_since = began = trio.current_time()
        self._is_sent = False
        try:
            jobs = await self._claim_with_retries(limit)
        finally:
            self.pending_since = None
        self.ended_at = now = trio.current_time()
        self._emitter.emit(JobsClaimed, count=len(jobs), limit=limit, duration=now - began)
        self._ledger.claimed(jobs)
        return jobs

    async def _claim_with_retries(self, limit: int) -> list[Job]:
        """Claim until that works. Before a new attempt, give back what an unanswered one has locked."""
        must_reconcile = self._is_reconciliation_due
        lapses = self._ledger.lapses
        for delay in backoff_delays(cap=max(self._options.poll_interval, 1.0)):
            try:
                if must_reconcile:
                    await self._reconcile()
                    must_reconcile = False
                jobs = await self._claim_once(limit)
                if not jobs or self._ledger.lapses == lapses:
                    return jobs
                # The lease lapsed meanwhile, so others may have taken these jobs: as if they were unanswered.
                must_reconcile, lapses = True, self._ledger.lapses
            except DatabaseError as error:
                if not error.transient:
                    raise
                must_reconcile = True
                logger.warning("claiming failed, next try in %.1f s: %s", delay, error)
                self._emitter.emit(ClaimFailed, error=str(error), retry_in=delay)
            await trio.sleep(delay)
        raise AssertionError("backoff_delays never ends")

    async def _claim_once(self, limit: int) -> list[Job]:
        rules = await claim_rules(self._options)
        await fast_acquire(self._ledger.claiming)
        try:
            if self._claimer.identifiers != self._tasks.identifiers:
                self._claimer.share(self._tasks.identifiers, self._bounds())
            if not self._is_sent:
                await trio.lowlevel.checkpoint_if_cancelled()  # unsent, it leaves the ledger certain
                self._ledger.claim_sent()
                self._is_sent = True
            unended = (job.task_identifier for job in self._ledger.unended())
            return await self._claimer.claim(limit, rules, unended)
        finally:
            self._ledger.claiming.release()

    @property
    def _is_reconciliation_due(self) -> bool:
        """Whether to reconcile before the next claim, which reads the whole table: there has to be a reason.

        A job of a queue was taken from us; or the server may have forgotten what it said was committed.
        """
        if self._ledger.queues_in_doubt != self._queues_in_doubt:
            return True
        return self._session.times_opened > self._times_opened

    async def _reconcile(self) -> None:
        async with self._ledger.claiming:
            queues_in_doubt = self._ledger.queues_in_doubt
            await reconcile(self._session, self._worker_id, self._ledger)
        self._queues_in_doubt, self._times_opened = queues_in_doubt, self._session.times_opened

    @property
    def may_have_room_again(self) -> bool:
        """Whether the end of a job may let one be claimed that the last claim, or this one, left out."""
        claimer = self._claimer
        return claimer.hit_a_bound or (claimer.is_bounded and self._ledger.claiming.locked())

    @property
    def look_again_at(self) -> float:
        """When to claim again at the latest: the last claim did not look everywhere. Infinity if it did."""
        return self._claimer.look_again_at

    def look_everywhere(self) -> None:
        """Have the next claim look everywhere, however long that takes."""
        self._claimer.look_everywhere()

    def _bounds(self) -> list[Bound]:
        bounds = [
            Bound(task.options.concurrency, frozenset([task.identifier]))
            for task in self._tasks
            if task.options.concurrency is not None
        ]
        in_processes = frozenset(task.identifier for task in self._tasks if task.lane == "process")
        if in_processes:
            bounds.append(Bound(self._options.processes.count, in_processes))
        return bounds


async def reconcile(session: Executor, worker_id: str, ledger: Ledger) -> None:
    """Give back the jobs that are locked by us and not in the ledger, and free their queues.

    The caller holds `ledger.claiming`, or knows that no claim is under way.
    """
    await unknown_locks.reconcile(session, worker_id, ledger.snapshot())
