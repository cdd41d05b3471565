"""The services of one run of a worker: each is made here, and given the services that it calls.

A service is made when it is first used, so there is no order of construction to keep. No service starts or
ends another: the nurseries in `run` do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._cron.item import CronItem
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._database.database import Database
from trio_graphile._database.session import Session
from trio_graphile._interceptors.chains import Chains
from trio_graphile._model.bell import Bell
from trio_graphile._model.options import LocalQueueOptions, RecoveryOptions, WorkerOptions
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.cancellations import Cancellations
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.cron_ticker import Clock, CronTicker
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.ending import Ending
from trio_graphile._worker.heartbeat import Heartbeat
from trio_graphile._worker.interception import Interception
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.lanes import Lanes
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.lease_signals import LeaseSignals
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.maintenance import Maintenance
from trio_graphile._worker.prefetcher import Prefetcher
from trio_graphile._worker.presence import Presence
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.refetch_delay import RefetchDelay
from trio_graphile._worker.run_events import RunEvents
from trio_graphile._worker.runner import Runner
from trio_graphile._worker.statistics import Statistics
from trio_graphile._worker.surroundings import Surroundings
from trio_graphile._worker.sweeper import Sweeper
from trio_graphile._worker.task_totals import TaskTotals
from trio_graphile._worker.watch import Watch
from trio_graphile.hooks._registry import Hooks

_LOCK_SHARE = 0.25
"""How long an outcome waits for a row that somebody else has locked, as a share of the cancel timeout. It is
set aside then, so that others can be written in time."""


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a run is given by its worker."""

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions
    worker_id: str
    state: Any
    hooks: Hooks
    crontab: Sequence[CronItem]
    clock: Clock
    drains: bool
    """Whether the run ends when nothing is due."""
    cancel_timeout: float
    """How long a statement or a thread may take to end after a cancellation, in seconds."""
    ending: Ending


@attrs.define(eq=False, slots=False)
class Services:
    """Makes the services of a run: those that others call come first."""

    _settings: RunSettings

    # --- what all of them know ------------------------------------------------------------------

    @cached_property
    def chains(self) -> Chains:
        """The observers and interceptors of plugins."""
        return Chains.of(self._settings.hooks)

    @cached_property
    def emitter(self) -> Emitter:
        """Calls observers."""
        settings = self._settings
        return Emitter(worker_id=settings.worker_id, chains=self.chains, options=settings.options.observers)

    @cached_property
    def events(self) -> RunEvents:
        """Emits events about the life of the run."""
        return RunEvents(self.emitter, self._settings.ending)

    @cached_property
    def ledger(self) -> Ledger:
        """Knows what we hold."""
        return Ledger()

    @cached_property
    def term(self) -> LeaseTerm:
        """Knows until when nobody else may take it."""
        return LeaseTerm(self._settings.options.lease)

    @cached_property
    def server_clock(self) -> ServerClock:
        """Says whether the age of others' heartbeats can be trusted."""
        options = self._settings.options
        recovery = options.recovery
        return ServerClock(options.lease.length if recovery is None else recovery.sweep_threshold)

    # --- from the database and back -------------------------------------------------------------

    @cached_property
    def claiming(self) -> Session:
        """The session of the claims."""
        return Session(self._settings.database, "claim", self._settings.cancel_timeout)

    @cached_property
    def recording(self) -> Session:
        """The session of the recorder."""
        timeout = self._settings.cancel_timeout
        return Session(self._settings.database, "outcomes", timeout, timeout * _LOCK_SHARE)

    @cached_property
    def claims(self) -> Claims:
        """Asks the database for jobs."""
        settings = self._settings
        return Claims(
            claimer=Claimer(self.claiming, settings.worker_id),
            session=self.claiming,
            ledger=self.ledger,
            tasks=settings.tasks,
            options=settings.options,
            worker_id=settings.worker_id,
            emitter=self.emitter,
        )

    @cached_property
    def announcements(self) -> Announcements:
        """Counts the jobs that were announced since the last claim."""
        return Announcements(
            news=Bell(), claims=self.claims, delay=self.refetch_delay, drains=self._settings.drains
        )

    @cached_property
    def refetch_delay(self) -> RefetchDelay:
        """Delays claims while they bring few jobs."""
        return RefetchDelay(self._local_queue_options, self.emitter)

    @cached_property
    def job_events(self) -> JobEvents:
        """Emits events about the ends of jobs."""
        return JobEvents(self.emitter)

    @cached_property
    def recorder(self) -> Recorder:
        """Writes outcomes."""
        options = self._settings.options
        return Recorder(
            session=self.recording,
            worker_id=self._settings.worker_id,
            ledger=self.ledger,
            announcements=self.announcements,
            job_events=self.job_events,
            complete_delay=options.complete_delay,
            fail_delay=options.fail_delay,
        )

    @cached_property
    def local_queue(self) -> LocalQueue:
        """Holds jobs until slots take them."""
        return LocalQueue(
            options=self._local_queue_options,
            ledger=self.ledger,
            recorder=self.recorder,
            announcements=self.announcements,
            term=self.term,
            ending=self._settings.ending.begun,
            emitter=self.emitter,
        )

    @cached_property
    def prefetcher(self) -> Prefetcher:
        """Fills the local queue."""
        return Prefetcher(
            queue=self.local_queue,
            claims=self.claims,
            ledger=self.ledger,
            announcements=self.announcements,
            term=self.term,
            options=self._local_queue_options,
            poll_interval=self._settings.options.poll_interval,
            delay=self.refetch_delay,
        )

    @property
    def _local_queue_options(self) -> LocalQueueOptions:
        options = self._settings.options.local_queue
        if self._settings.drains:
            return attrs.evolve(options, refetch_delay=None)  # a drain does not wait for more to come
        return options

    # --- running jobs ---------------------------------------------------------------------------

    @cached_property
    def lanes(self) -> Lanes:
        """Call handlers."""
        options = self._settings.options
        return Lanes(
            cancel_timeout=self._settings.cancel_timeout,
            threads=trio.CapacityLimiter(options.concurrency),
            process_options=options.processes,
        )

    @cached_property
    def interception(self) -> Interception | None:
        """Calls interceptors before and after handlers, if there are any."""
        if not self.chains.touches_runs:
            return None
        return Interception(
            chains=self.chains, worker_id=self._settings.worker_id, lanes=self.lanes, emitter=self.emitter
        )

    @cached_property
    def totals(self) -> TaskTotals:
        """Adds up the runs of each task."""
        return TaskTotals()

    @cached_property
    def runner(self) -> Runner:
        """Runs jobs in the slots."""
        settings = self._settings
        return Runner(
            tasks=settings.tasks,
            local_queue=self.local_queue,
            lanes=self.lanes,
            interception=self.interception,
            surroundings=Surroundings(
                worker_id=settings.worker_id,
                client=Client(settings.database, settings.tasks, plugins=[settings.hooks]),
                database=settings.database,
                state=settings.state,
                stopping=settings.ending.begun,
            ),
            recorder=self.recorder,
            announcements=self.announcements,
            job_events=self.job_events,
            emitter=self.emitter,
            totals=self.totals,
        )

    @cached_property
    def cancellations(self) -> Cancellations:
        """Interrupts jobs on request."""
        options = self._settings.options
        return Cancellations(
            session=self.claiming,
            worker_id=self._settings.worker_id,
            ledger=self.ledger,
            runner=self.runner,
            local_queue=self.local_queue,
            recorder=self.recorder,
            interval=options.lease.renew_interval if self._listens else options.poll_interval,
        )

    # --- what brings jobs -----------------------------------------------------------------------

    @cached_property
    def listener(self) -> Listener | None:
        """Hears that jobs were added; None if the worker only polls."""
        settings = self._settings
        if not self._listens:
            return None
        return Listener(
            database=settings.database,
            echo_channel=f"trio_graphile:echo:{settings.worker_id}",
            worker_id=settings.worker_id,
            cancel_timeout=settings.cancel_timeout,
            announcements=self.announcements,
            cancellations=self.cancellations,
            ending=settings.ending,
            emitter=self.emitter,
        )

    @property
    def _listens(self) -> bool:
        return self._settings.options.notifications and not self._settings.drains

    @cached_property
    def cron_ticker(self) -> CronTicker:
        """Adds the jobs of the crontab."""
        settings = self._settings
        return CronTicker(
            items=settings.crontab,
            options=settings.options.cron,
            clock=settings.clock,
            database=settings.database,
            cancel_timeout=settings.cancel_timeout,
            chains=self.chains,
            emitter=self.emitter,
        )

    # --- being there ----------------------------------------------------------------------------

    @cached_property
    def presence(self) -> Presence:
        """Keeps what the database knows of us."""
        settings = self._settings
        return Presence(
            database=settings.database,
            tasks=settings.tasks,
            worker_id=settings.worker_id,
            ledger=self.ledger,
            claiming=self.claiming,
            recording=self.recording,
            heartbeat=Heartbeat(
                options=settings.options,
                tasks=settings.tasks,
                runner=self.runner,
                recorder=self.recorder,
                local_queue=self.local_queue,
                totals=self.totals,
                ending=settings.ending,
            ),
            server_clock=self.server_clock,
            cancel_timeout=settings.cancel_timeout,
            registers=settings.options.recovery is not None,
        )

    @cached_property
    def lease(self) -> Lease:
        """Renews what we hold."""
        settings = self._settings
        return Lease(
            database=settings.database,
            options=settings.options.lease,
            term=self.term,
            presence=self.presence,
            signals=LeaseSignals(
                local_queue=self.local_queue,
                prefetcher=self.prefetcher,
                runner=self.runner,
                emitter=self.emitter,
            ),
            ending=settings.ending,
        )

    @cached_property
    def sweeper(self) -> Sweeper:
        """Looks after the whole queue now and then."""
        settings = self._settings
        recovery = settings.options.recovery if self.presence.is_registered else None
        return Sweeper(
            options=recovery,
            maintenance=Maintenance(
                database=settings.database,
                options=RecoveryOptions() if recovery is None else recovery,
                worker_id=settings.worker_id,
                chains=self.chains,
                server_clock=self.server_clock,
                cancel_timeout=settings.cancel_timeout,
            ),
            emitter=self.emitter,
        )

    # --- looking on -----------------------------------------------------------------------------

    @cached_property
    def statistics(self) -> Statistics:
        """Collects what the other services do."""
        return Statistics(
            options=self._settings.options,
            events=self.events,
            runner=self.runner,
            local_queue=self.local_queue,
            claims=self.claims,
            recorder=self.recorder,
            term=self.term,
            lease=self.lease,
            listener=self.listener,
            emitter=self.emitter,
        )

    @cached_property
    def watch(self) -> Watch:
        """Looks for standstills."""
        return Watch(statistics=self.statistics.now)
