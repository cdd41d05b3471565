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
from trio_graphile._database.cancellations import CANCEL_CHANNEL
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.schema import is_superseded
from trio_graphile._database.session import Session, persist
from trio_graphile._model.cancellation import CancelRequest, requested_outcome
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import LocalQueueOptions, WorkerOptions
from trio_graphile._model.outcomes import Returned
from trio_graphile._model.statistics import ListenState, WorkerPhase, WorkerStatistics
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.cancellations import Cancellations
from trio_graphile._worker.cron_ticker import Clock, CronTicker
from trio_graphile._worker.heartbeat import describe_running
from trio_graphile._worker.holdings import Holdings, Renewed
from trio_graphile._worker.interception import Interception
from trio_graphile._worker.job_events import ENDINGS, JobEvents
from trio_graphile._worker.lanes import Lanes
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.observation import Observation
from trio_graphile._worker.outcomes import Outcomes
from trio_graphile._worker.places import describe_block
from trio_graphile._worker.recovery import Sweeper
from trio_graphile._worker.runner import Runner
from trio_graphile._worker.running import RunningJob
from trio_graphile._worker.surroundings import Surroundings
from trio_graphile._worker.task_totals import TaskTotals
from trio_graphile._worker.watch import Watch
from trio_graphile.hooks._additions import intercept_cron_jobs
from trio_graphile.hooks._chains import Chains
from trio_graphile.hooks._event import Teller
from trio_graphile.hooks._job_events import JobStarted
from trio_graphile.hooks._registry import Hooks
from trio_graphile.hooks._worker_events import CLAIM_EVENTS, LeaseExpiring, LeaseRestored


@attrs.define(eq=False, kw_only=True)
class Services:
    """What works for one run of a worker. Who runs them says when each starts and leaves."""

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions
    worker_id: str
    state: Any
    hooks: Hooks
    crontab: Sequence[CronItem]
    clock: Clock
    drain: bool
    """Whether the run ends when nothing is due."""
    patience: float
    """How long a statement or a thread may take to end after a cancellation, in seconds."""
    ending: trio.Event
    on_breaking_migration: Callable[[], None]
    statistics_now: Callable[[], WorkerStatistics]
    """Says what is going on, and how far the worker has come."""
    chains: Chains = attrs.field(init=False)
    observation: Observation = attrs.field(init=False)
    ledger: Ledger = attrs.field(init=False, factory=Ledger)
    holdings: Holdings = attrs.field(init=False)
    outcomes: Outcomes = attrs.field(init=False)
    local_queue: LocalQueue = attrs.field(init=False)
    lanes: Lanes = attrs.field(init=False)
    runner: Runner = attrs.field(init=False)
    cancellations: Cancellations = attrs.field(init=False)
    watch: Watch = attrs.field(init=False)
    lease: Lease[Renewed] = attrs.field(init=False)
    _totals: TaskTotals = attrs.field(init=False, factory=TaskTotals)
    _run_clock: trio.abc.Clock = attrs.field(init=False, factory=trio.lowlevel.current_clock)
    """That of the worker's thread, for the lease's."""
    _listener: Listener | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        options = self.options
        # A handler's statement is to end as soon as anything else does, when the worker has to.
        self.database.cancel_patience = min(self.database.cancel_patience, self.patience)
        self.chains = Chains.of(self.hooks)
        self.observation = Observation(
            worker_id=self.worker_id, chains=self.chains, options=options.observers
        )
        ending_teller = self.observation.teller(*ENDINGS)
        job_events = None if ending_teller is None else JobEvents(ending_teller)
        self.holdings = Holdings(
            self.database, self.tasks, options, self.worker_id, self.patience, self.ledger
        )
        self.outcomes = Outcomes(
            session=self.holdings.recording,
            worker_id=self.worker_id,
            ledger=self.ledger,
            on_recorded=self._after_record,
            complete_delay=options.complete_delay,
            fail_delay=options.fail_delay,
            on_certain=None if job_events is None else job_events.recorded,
        )
        self.lease = Lease(
            database=self.database,
            options=options.lease,
            renew=self._renew,
            events=self,
            describe_block=partial(describe_block, runner=Runner.run.__code__),
        )
        self.local_queue = LocalQueue(
            claim=self.holdings.claim,
            reconcile=self.holdings.reconcile_claims,
            give_back=lambda job: self.outcomes.put(Returned(job)),
            ledger=self.ledger,
            poll_interval=options.poll_interval,
            reconcile_interval=options.lease.length,
            ending=self.ending,
            lease_holds=self.lease.holds,
            options=_without_delay(options.local_queue) if self.drain else options.local_queue,
            teller=self.observation.teller(*CLAIM_EVENTS),
        )
        self.lanes = Lanes(
            patience=self.patience,
            threads=trio.CapacityLimiter(options.concurrency),
            process_options=options.processes,
        )
        self.runner = self._make_runner(None if job_events is None else job_events.remember)
        self.cancellations = self._make_cancellations()
        self.watch = Watch(statistics=self.statistics_now)
        self.holdings.statistics = self._heartbeat

    def statistics(self, phase: WorkerPhase) -> WorkerStatistics:
        """Say what is going on."""
        running, now, lease = self.runner.statistics(), trio.current_time(), self.lease
        queue, outcomes = self.local_queue, self.outcomes
        return WorkerStatistics(
            phase=phase,
            running=running,
            held=queue.held,
            unrecorded=outcomes.waiting,
            slots=self.options.concurrency,
            busy=len(running),
            idle=queue.idle,
            paused=outcomes.paused,
            has_room=not outcomes.is_full,
            completed=outcomes.counts.completed,
            failed=outcomes.counts.failed,
            heartbeat_age=lease.age,
            lease_holds=phase is WorkerPhase.STARTING or lease.holds(),
            listen_state=ListenState.OFF if self._listener is None else self._listener.state,
            claim_age=None if queue.claimed_at is None else now - queue.claimed_at,
            claim_pending=0.0 if queue.claiming_since is None else now - queue.claiming_since,
            claim_overdue=self._claim_overdue(now),
            record_pending=0.0 if outcomes.writing_since is None else now - outcomes.writing_since,
            record_overdue=outcomes.overdue,
            standstills=self.watch.standing,
            standstill=0.0 if self.watch.since is None else now - self.watch.since,
            loop_lag=lease.loop_lag,
            events_waiting=self.observation.waiting,
            events_dropped=self.observation.dropped,
        )

    def _heartbeat(self) -> dict[str, object]:
        """Return what a heartbeat says of our work. From any thread: all is read in single steps."""
        running = self.runner.running
        counts = self.outcomes.counts
        is_stopping = self.ending.is_set()
        return {
            "phase": (WorkerPhase.STOPPING if is_stopping else WorkerPhase.RUNNING).value,
            "statistics": {
                "slots": self.options.concurrency,
                "busy": len(running),
                "held": self.local_queue.held,
                "completed": counts.completed,
                "failed": counts.failed,
                "tasks": self._totals.as_dict(),
                "running": describe_running(running, self._run_clock.current_time()),
            },
        }

    def _claim_overdue(self, now: float) -> float:
        queue = self.local_queue
        is_due = queue.idle > 0 and queue.held == 0 and queue.claiming_since is None and self.lease.holds()
        if queue.claimed_at is None or not is_due:
            return 0.0
        return max(0.0, now - queue.claimed_at - self.options.poll_interval)

    async def leave(self) -> None:
        """Make sure that nothing is locked by us, and tell the others that we are gone: the last words."""
        was_certain = self._is_certain
        if not was_certain:
            await self._release_rest()
        await self.lease.end()  # else its last heartbeat might come after our farewell
        await persist(self.holdings.leave, what="leaving")
        if was_certain and not self._is_certain:  # the server is gone, and the one that answered knows less
            await self._release_rest()

    async def _release_rest(self) -> None:
        await persist(self.holdings.release_rest, what="giving back the rest")

    @property
    def _is_certain(self) -> bool:
        """Whether nothing can be locked by us of which nothing is known here.

        If it may be, only the database can say, and it reads the whole table for that, however large.
        """
        return self.ledger.is_certain(trusts_server=self.holdings.trusts_server)

    def _cancel_job(self, job: Job, request: CancelRequest) -> None:
        """Cancel a job on request, whether it runs or waits for a slot; if it has ended, it is too late."""
        if not self.runner.cancel(job, request) and self.local_queue.withdraw(job):
            self.outcomes.put(requested_outcome(job, request))

    async def _renew(self, session: Session) -> Renewed:
        """Renew, in the lease's thread, after a look at what nobody may have told us.

        First of all, since a revision that we cannot live with may make a renewal fail.
        """
        if await is_superseded(session):
            self.lease.tell(self.on_breaking_migration)
        return await self.holdings.renew(session)

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

    def lapsed(self) -> None:
        """Give back what is held, and let no outcome of before hit a claim of now."""
        self.local_queue.lapsed()

    def expiring(self) -> None:
        """Run nothing any more: others may take our jobs soon."""
        self.local_queue.suspend()
        self.runner.fence()
        self.observation.tell(LeaseExpiring(worker_id=self.worker_id))

    def restored(self) -> None:
        """Claim again."""
        self.local_queue.resume()
        self.observation.tell(LeaseRestored(worker_id=self.worker_id))

    # --- how the services are made --------------------------------------------------------------

    def _make_runner(self, on_end: Callable[[RunningJob], None] | None) -> Runner:
        teller = self.observation.teller(JobStarted)
        on_start = None if teller is None else partial(_tell_start, teller)
        interception = Interception(
            chains=self.chains, worker_id=self.worker_id, call=self.lanes.call, on_start=on_start
        )
        is_intercepted = self.chains.touches_runs
        return Runner(
            tasks=self.tasks,
            call=interception.call if is_intercepted else self.lanes.call,
            surroundings=Surroundings(
                worker_id=self.worker_id,
                client=Client(self.database, self.tasks, plugins=[self.hooks]),
                database=self.database,
                state=self.state,
                stopping=self.ending,
            ),
            record=self.outcomes.put,
            on_freed_queue=partial(self._after_record, True),  # noqa: FBT003  # said where it is declared
            totals=self._totals,
            interceptor=interception if is_intercepted else None,
            on_start=None if is_intercepted else on_start,
            on_end=on_end,
        )

    def _make_cancellations(self) -> Cancellations:
        options = self.options
        hears = options.notifications and not self.drain
        return Cancellations(
            look=self.holdings.cancel_requests,
            forget=self.holdings.forget_cancel_requests,
            cancel=self._cancel_job,
            ledger=self.ledger,
            interval=options.lease.renew_interval if hears else options.poll_interval,
        )

    def listener(self) -> Listener:
        """Return what hears that jobs were added."""
        self._listener = Listener(
            open=self._listening_session,
            on_jobs=self.local_queue.announce,
            on_breaking_migration=self.on_breaking_migration,
            on_cancellation=self.cancellations.nudge,
            cancel_channel=f"{CANCEL_CHANNEL}{self.worker_id}",
            echo_channel=f"trio_graphile:echo:{self.worker_id}",
            teller=self.observation,
        )
        return self._listener

    async def _listening_session(self) -> Connection:
        return await self.database.open_session("listen", cancel_patience=self.holdings.patience, direct=True)

    def cron_ticker(self) -> CronTicker:
        """Return what adds the jobs of the crontab."""
        return CronTicker(
            items=self.crontab,
            options=self.options.cron,
            clock=self.clock,
            session=self._cron_session,
            intercept=partial(intercept_cron_jobs, self.chains) if self.chains.before_job_schedule else None,
            teller=self.observation,
        )

    @contextlib.asynccontextmanager
    async def _cron_session(self) -> AsyncIterator[Connection]:
        session = await self.database.open_session("cron", cancel_patience=self.patience, interruptible=True)
        async with contextlib.aclosing(session):
            yield session

    def sweeper(self) -> Sweeper:
        """Return what looks for dead workers."""
        return Sweeper(
            options=self.options.recovery if self.holdings.registered else None,
            sweep=partial(self.holdings.sweep, self.chains),
            reset=self.holdings.release_old_locks,
            sample=self.holdings.take_sample,
            teller=self.observation,
        )

    def _after_record(self, freed_something: bool) -> None:  # noqa: FBT001  # a callback with one meaning
        if freed_something or self.drain or self.holdings.may_have_room_again:
            self.local_queue.announce(1)


def _without_delay(options: LocalQueueOptions) -> LocalQueueOptions:
    return attrs.evolve(options, refetch_delay=None)  # a drain does not wait for more to come


def _tell_start(teller: Teller, job: Job) -> None:
    teller.tell(JobStarted(worker_id=teller.worker_id, job=job))
