"""What claims, runs and records in one run of a worker: each service is given those that it calls.

A service is made when it is first used, so there is no order of construction to keep. No service starts or
ends another: the nurseries in `run` do that.
"""

from __future__ import annotations

from functools import cached_property

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._database.session import Session
from trio_graphile._interceptors.chains import Chains
from trio_graphile._model.bell import Bell
from trio_graphile._model.options import LocalQueueOptions
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.cancellations import Cancellations
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.interception import Interception
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.lanes import Lanes
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.prefetcher import Prefetcher
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.refetch_delay import RefetchDelay
from trio_graphile._worker.run_events import RunEvents
from trio_graphile._worker.run_settings import RunSettings
from trio_graphile._worker.runner import Runner
from trio_graphile._worker.surroundings import Surroundings
from trio_graphile._worker.task_totals import TaskTotals

_LOCK_SHARE = 0.25
"""How long an outcome waits for a row that somebody else has locked, as a share of the cancel timeout. It is
set aside then, so that others can be written in time."""


@attrs.define(eq=False, slots=False)
class Handling:
    """Makes what claims jobs, runs them and records their outcomes: what others call comes first."""

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
                was_claimed_again=self.ledger.was_claimed_again,
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
            interval=options.lease.renew_interval if self._settings.listens else options.poll_interval,
        )
