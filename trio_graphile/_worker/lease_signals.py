"""What the worker does when its lease is renewed, is about to end, or holds again. In the worker's thread."""

from __future__ import annotations

import attrs

from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.prefetcher import Prefetcher
from trio_graphile._worker.presence import Renewed
from trio_graphile._worker.runner import Runner
from trio_graphile.hooks._worker_events import LeaseExpiring, LeaseRestored


@attrs.define(eq=False, kw_only=True)
class LeaseSignals:
    """Passes on what the lease says to those whom it concerns."""

    _local_queue: LocalQueue
    _prefetcher: Prefetcher
    _runner: Runner
    _emitter: Emitter

    def renewed(self, renewed: Renewed) -> None:
        """Interrupt what is lost, and what was replaced if its task wants that."""
        lost = {job.id: job for job in renewed.asked if job.id in renewed.found.lost}
        self._local_queue.drop(lost.values())
        self._prefetcher.lease_renewed()
        for job in lost.values():
            self._runner.lose(job)
        for job in renewed.asked:
            if job.id in renewed.found.detached:
                self._runner.detach(job)

    def lapsed(self) -> None:
        """Let go of what is held: the lease had ended before it was renewed, and others may have taken it.

        No outcome of before may hit a claim of now.
        """
        self._prefetcher.lapsed()

    def expiring(self) -> None:
        """Run nothing any more: others may take our jobs soon."""
        self._prefetcher.suspend()
        self._runner.fence()
        self._emitter.emit(LeaseExpiring)

    def restored(self) -> None:
        """Claim again: the lease holds."""
        self._prefetcher.resume()
        self._emitter.emit(LeaseRestored)
