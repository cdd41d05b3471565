"""Statistics: what a worker does at this moment."""

from __future__ import annotations

import attrs
import trio

from trio_graphile._model.options import WorkerOptions
from trio_graphile._model.statistics import ListenState, WorkerPhase, WorkerStatistics
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.run_events import RunEvents
from trio_graphile._worker.runner import Runner


@attrs.frozen(eq=False, kw_only=True)
class Statistics:
    """Collects statistics from the services of one run."""

    _options: WorkerOptions
    _events: RunEvents
    _runner: Runner
    _local_queue: LocalQueue
    _claims: Claims
    _recorder: Recorder
    _term: LeaseTerm
    _lease: Lease
    _listener: Listener | None
    _emitter: Emitter

    def now(self) -> WorkerStatistics:
        """Return the statistics of this moment, without the standstills, which the watch knows."""
        phase, running, now = self._events.phase, self._runner.statistics(), trio.current_time()
        claims, recorder = self._claims, self._recorder
        return WorkerStatistics(
            phase=phase,
            running=running,
            held=self._local_queue.held,
            unrecorded=recorder.waiting,
            slots=self._options.concurrency,
            busy=len(running),
            idle=self._local_queue.idle,
            paused=recorder.paused,
            has_room=not recorder.is_full,
            completed=recorder.counts.completed,
            failed=recorder.counts.failed,
            heartbeat_age=self._term.age,
            lease_holds=phase is WorkerPhase.STARTING or self._term.holds(),
            listen_state=ListenState.OFF if self._listener is None else self._listener.state,
            claim_age=None if claims.ended_at is None else now - claims.ended_at,
            claim_pending=0.0 if claims.pending_since is None else now - claims.pending_since,
            claim_overdue=self._claim_overdue(now),
            record_pending=0.0 if recorder.writing_since is None else now - recorder.writing_since,
            record_overdue=recorder.overdue,
            loop_lag=self._lease.loop_lag,
            events_waiting=self._emitter.waiting,
            events_dropped=self._emitter.dropped,
        )

    def _claim_overdue(self, now: float) -> float:
        queue, claims = self._local_queue, self._claims
        is_due = queue.idle > 0 and queue.held == 0 and claims.pending_since is None and self._term.holds()
        if claims.ended_at is None or not is_due:
            return 0.0
        return max(0.0, now - claims.ended_at - self._options.poll_interval)
