"""Lease signals: what the worker does when its lease is renewed, is about to end, or holds again."""

from __future__ import annotations

import attrs

from trio_graphile._database.presence_locks import Gone
from trio_graphile._worker.absences import Takeovers
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.prefetcher import Prefetcher
from trio_graphile._worker.presence import Renewed
from trio_graphile._worker.runner import Runner
from trio_graphile.hooks._worker_events import LeaseExpiring, LeaseRestored


@attrs.define(eq=False, kw_only=True)
class LeaseSignals:
    """Passes signals of the lease on to the services that act on them. Called in the worker's thread."""

    _local_queue: LocalQueue
    _prefetcher: Prefetcher
    _runner: Runner
    _emitter: Emitter
    _takeovers: Takeovers = attrs.field(factory=Takeovers)

    def gone(self, gone: list[Gone]) -> None:
        """Have the sweeper take the jobs of these workers."""
        self._takeovers.put(gone)

    def renewed(self, renewed: Renewed) -> None:
        """Interrupt jobs that were taken from us, and jobs that were replaced if their task wants that."""
        lost = {job.id: job for job in renewed.asked if job.id in renewed.found.lost}
        self._local_queue.drop(lost.values())
        self._prefetcher.lease_renewed()
        for job in lost.values():
            self._runner.lose(job)
        for job in renewed.asked:
            if job.id in renewed.found.detached:
                self._runner.detach(job)

    def lapsed(self) -> None:
        """Give back all jobs that are held: the lease had ended, so others may have taken them.

        An outcome of a job that was claimed before may not be written for a newer claim of the same job.
        """
        self._prefetcher.lapsed()

    def expiring(self) -> None:
        """Interrupt all handlers, and claim no jobs: others may take ours soon."""
        self._prefetcher.suspend()
        self._runner.fence()
        self._emitter.emit(LeaseExpiring)

    def restored(self) -> None:
        """Claim jobs again: the lease holds."""
        self._prefetcher.resume()
        self._emitter.emit(LeaseRestored)
