"""The services of one run of a worker: each is made here, and given the services that it calls.

A service is made when it is first used, so there is no order of construction to keep. No service starts or
ends another: the nurseries in `run` do that.
"""

from __future__ import annotations

from functools import cached_property

import attrs
import trio

from trio_graphile._model.options import RecoveryOptions
from trio_graphile._worker.absences import Takeovers
from trio_graphile._worker.cron_ticker import CronTicker
from trio_graphile._worker.handling import Handling
from trio_graphile._worker.heartbeat import Heartbeat
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.lease_signals import LeaseSignals
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.lock_keeper import LockKeeper, why_no_lock
from trio_graphile._worker.maintenance import Maintenance
from trio_graphile._worker.presence import Presence
from trio_graphile._worker.statistics import Statistics
from trio_graphile._worker.sweeper import Sweeper
from trio_graphile._worker.watch import Watch


@attrs.define(eq=False, slots=False)
class Services(Handling):
    """Adds what brings jobs to a run, and what keeps it present and looked after."""

    # --- what brings jobs -----------------------------------------------------------------------

    @cached_property
    def listener(self) -> Listener | None:
        """Hears that jobs were added, on the session of the claims if it can; None if it only polls."""
        settings = self._settings
        if not settings.listens:
            return None
        shares = settings.database.hears_everywhere
        return Listener(
            database=settings.database,
            session=self.claiming if shares else None,
            turn=self.ledger.claiming if shares else trio.Lock(),
            echo_channel=f"trio_graphile:echo:{settings.worker_id}",
            worker_id=settings.worker_id,
            cancel_timeout=settings.cancel_timeout,
            announcements=self.announcements,
            cancellations=self.cancellations,
            ending=settings.ending,
            emitter=self.emitter,
        )

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
                why_no_lock=why_no_lock(settings.database, settings.options),
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
                takeovers=self.takeovers,
            ),
            ending=settings.ending,
            lock_keeper=LockKeeper.of(settings.database, settings.worker_id, settings.options),
        )

    @cached_property
    def takeovers(self) -> Takeovers:
        """Passes the workers that are gone from the lease to the sweeper."""
        return Takeovers()

    @cached_property
    def sweeper(self) -> Sweeper:
        """Looks after the whole queue now and then."""
        settings = self._settings
        recovery = settings.options.recovery if self.presence.is_registered else None
        return Sweeper(
            options=recovery,
            lease_length=settings.options.lease.length,
            maintenance=Maintenance(
                database=settings.database,
                options=RecoveryOptions() if recovery is None else recovery,
                worker_id=settings.worker_id,
                ledger=self.ledger,
                chains=self.chains,
                server_clock=self.server_clock,
                cancel_timeout=settings.cancel_timeout,
            ),
            emitter=self.emitter,
            takeovers=self.takeovers,
            announcements=self.announcements,
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
