"""The services of a worker: how they are made, and who tells whom what. None of them knows another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._cron.item import CronItem
from trio_graphile._database import queue
from trio_graphile._database.cancellations import CANCEL_CHANNEL
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._model.cancellation import CancelRequest, requested_outcome
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import LocalQueueOptions, WorkerOptions
from trio_graphile._model.outcomes import Returned
from trio_graphile._model.statistics import WorkerStatistics
from trio_graphile._tasks.context import JobContext, JobNotes
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.cancellations import Cancellations
from trio_graphile._worker.cron_ticker import Clock, CronTicker
from trio_graphile._worker.holdings import Holdings, Renewed
from trio_graphile._worker.lanes import Lanes
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.outcomes import Outcomes, Recording
from trio_graphile._worker.places import describe_block
from trio_graphile._worker.recovery import Sweeper
from trio_graphile._worker.runner import ContextMaker, Runner


@attrs.define(eq=False, kw_only=True)
class Services:
    """What works for one run of a worker. Who runs them says when each starts and leaves."""

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions
    worker_id: str
    state: Any
    crontab: Sequence[CronItem]
    clock: Clock
    drain: bool
    """Whether the run ends when nothing is due."""
    patience: float
    """How long a statement or a thread may take to end after a cancellation, in seconds."""
    ending: trio.Event
    on_breaking_migration: Callable[[], None]
    holdings: Holdings = attrs.field(init=False)
    outcomes: Outcomes = attrs.field(init=False)
    local_queue: LocalQueue = attrs.field(init=False)
    lanes: Lanes = attrs.field(init=False)
    runner: Runner = attrs.field(init=False)
    cancellations: Cancellations = attrs.field(init=False)
    lease: Lease[Renewed] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        options = self.options
        self.holdings = Holdings(self.database, self.tasks, options, self.worker_id, self.patience)
        self.outcomes = Outcomes(
            recording=self._recording(),
            known=self.holdings.known,
            on_recorded=self._after_record,
            no_claim=self.holdings.claim_lock,
            complete_delay=options.complete_delay,
            fail_delay=options.fail_delay,
        )
        self.lease = Lease(
            database=self.database,
            options=options.lease,
            renew=self.holdings.renew,
            events=self,
            describe_block=partial(describe_block, runner=Runner.run.__code__),
        )
        self.local_queue = LocalQueue(
            claim=self.holdings.claim,
            reconcile=self.holdings.reconcile_claims,
            give_back=lambda job: self.outcomes.put(Returned(job)),
            known=self.holdings.known,
            poll_interval=options.poll_interval,
            reconcile_interval=options.lease.length,
            ending=self.ending,
            lease_holds=self.lease.holds,
            options=_without_delay(options.local_queue) if self.drain else options.local_queue,
        )
        self.lanes = Lanes(
            patience=self.patience,
            threads=trio.CapacityLimiter(options.concurrency),
            process_options=options.processes,
        )
        self.runner = Runner(
            tasks=self.tasks,
            lanes=self.lanes,
            make_context=self._context_maker(),
            record=self.outcomes.put,
            on_freed_queue=partial(self._after_record, True),  # noqa: FBT003  # said where it is declared
        )
        self.cancellations = self._make_cancellations()

    def statistics(self) -> WorkerStatistics:
        """Say what is going on."""
        return WorkerStatistics(
            running=self.runner.statistics(),
            held=self.local_queue.held,
            unrecorded=self.outcomes.waiting,
        )

    def _cancel_job(self, job: Job, request: CancelRequest) -> None:
        """Cancel a job on request, whether it runs or waits for a slot; if it has ended, it is too late."""
        if not self.runner.cancel(job, request) and self.local_queue.withdraw(job):
            self.outcomes.put(requested_outcome(job, request))

    # --- what the lease says --------------------------------------------------------------------

    def renewed(self, renewal: Renewed) -> None:
        """Interrupt what is lost, and what was replaced if its task wants that."""
        lost = {job.id: job for job in renewal.asked if job.id in renewal.found.lost}
        self.local_queue.renewed(lost.values())
        for job in lost.values():
            self.runner.lose(job)
        for job in renewal.asked:
            if job.id in renewal.found.detached:
                self.runner.detach(job)

    def expiring(self) -> None:
        """Run nothing any more: others may take our jobs soon."""
        self.local_queue.suspend()
        self.runner.fence()

    def restored(self) -> None:
        """Claim again."""
        self.local_queue.resume()

    # --- how the services are made --------------------------------------------------------------

    def _recording(self) -> Recording:
        session, worker_id = self.holdings.recording, self.worker_id
        return Recording(
            complete=lambda done: queue.complete_jobs(session, worker_id, [o.job for o in done]),
            fail=lambda failures: queue.fail_jobs(session, worker_id, failures),
            give_back=lambda back: queue.return_jobs(session, worker_id, back),
            remove=lambda removed: queue.complete_jobs(session, worker_id, [o.job for o in removed]),
        )

    def _context_maker(self) -> ContextMaker:
        client = Client(self.database, self.tasks)

        def make(job: Job, notes: JobNotes, to_json: Callable[[Any], str]) -> JobContext:
            return JobContext(
                job=job,
                worker_id=self.worker_id,
                client=client,
                database=self.database,
                state=self.state,
                stopping=self.ending,
                notes=notes,
                to_json=to_json,
            )

        return make

    def _make_cancellations(self) -> Cancellations:
        options = self.options
        hears = options.notifications and not self.drain
        return Cancellations(
            look=self.holdings.cancel_requests,
            forget=self.holdings.forget_cancel_requests,
            cancel=self._cancel_job,
            known=self.holdings.known,
            interval=options.lease.renew_interval if hears else options.poll_interval,
        )

    def listener(self) -> Listener:
        """Return what hears that jobs were added."""
        return Listener(
            open=self._listening_session,
            on_jobs=self.local_queue.announce,
            on_breaking_migration=self.on_breaking_migration,
            on_cancellation=self.cancellations.nudge,
            cancel_channel=f"{CANCEL_CHANNEL}{self.worker_id}",
            echo_channel=f"trio_graphile:echo:{self.worker_id}",
        )

    async def _listening_session(self) -> Connection:
        return await self.database.open_session("listen", cancel_patience=self.holdings.patience)

    def cron_ticker(self) -> CronTicker:
        """Return what adds the jobs of the crontab."""
        return CronTicker(
            items=self.crontab, options=self.options.cron, clock=self.clock, session=self._cron_session
        )

    @contextlib.asynccontextmanager
    async def _cron_session(self) -> AsyncIterator[Connection]:
        session = await self.database.open_session("cron", cancel_patience=self.patience)
        async with contextlib.aclosing(session):
            yield session

    def sweeper(self) -> Sweeper:
        """Return what looks for dead workers."""
        return Sweeper(
            options=self.options.recovery if self.holdings.registered else None,
            sweep=self.holdings.sweep,
            reset=self.holdings.release_old_locks,
        )

    def _after_record(self, freed_something: bool) -> None:  # noqa: FBT001  # a callback with one meaning
        if freed_something or self.drain or self.holdings.may_have_room_again:
            self.local_queue.announce(1)


def _without_delay(options: LocalQueueOptions) -> LocalQueueOptions:
    return attrs.evolve(options, refetch_delay=None)  # a drain does not wait for more to come
