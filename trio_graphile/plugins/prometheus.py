"""Metrics for Prometheus. Needs the extra `prometheus`."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.delays import check_delay
from trio_graphile._model.health import HealthOptions, health_of
from trio_graphile._model.statistics import Backlog, ListenState, WorkerPhase, WorkerStatistics
from trio_graphile.hooks import (
    ClaimFailed,
    CronJobScheduled,
    Hooks,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobsClaimed,
    JobSnoozed,
    JobStarted,
    JobTakenAway,
    ListenLost,
    ObservedWorker,
    WorkerEnded,
    WorkersRecovered,
    WorkerStarting,
)
from trio_graphile.plugins.pages import Page, Pages

try:
    import prometheus_client as prometheus
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "metrics for Prometheus need prometheus-client: pip install 'trio-graphile[prometheus]'",
        name=_missing.name,
    ) from None

__all__ = ["Prometheus"]

_logger = logging.getLogger("trio_graphile.prometheus")

_OUTCOMES: dict[type[JobEvent], str] = {
    JobCompleted: "completed",
    JobFailed: "failed",
    JobFailedPermanently: "failed_permanently",
    JobSnoozed: "snoozed",
    JobInterrupted: "interrupted",
    JobRemoved: "removed",
    JobTakenAway: "taken_away",
}
_BUCKETS_IN_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
_BACKLOG_TIMEOUT = 2.0
"""How long a scrape waits for the backlog, in seconds."""


class Prometheus:
    """Metrics of all the workers that have it as a plugin: make one for each process.

    The metrics go to `registry`, which defaults to that of prometheus-client. A scrape of `pages`, or a call
    of `refresh`, counts the backlog if the last count is `backlog_interval` seconds old, or never with None.
    `buckets` are the upper bounds of both histograms, in seconds.
    """

    def __init__(
        self,
        registry: prometheus.CollectorRegistry | None = None,
        *,
        backlog_interval: float | None = 15.0,
        buckets: Sequence[float] = _BUCKETS_IN_SECONDS,
    ) -> None:
        if backlog_interval is not None:
            check_delay("backlog_interval", backlog_interval)
        self.registry: prometheus.CollectorRegistry = prometheus.REGISTRY if registry is None else registry
        """The registry with the metrics."""
        self._backlog_interval = backlog_interval
        self._backlog: Backlog | None = None
        self._counted_at = -math.inf
        self._workers: dict[str, ObservedWorker] = {}
        self._dropped = 0
        """The number of events that were dropped by workers which have ended."""
        self._make_counters(buckets)
        self.registry.register(_Gauges(self))

    def register(self, hooks: Hooks, /) -> None:
        """Register observers with a worker. Nothing is counted for a client."""
        worker = hooks.worker
        if worker is None:
            return
        hooks.on(WorkerStarting, lambda event: self._add(event, worker))
        hooks.on(WorkerEnded, self._remove)
        hooks.on(JobStarted, self._count_start)
        for event in _OUTCOMES:
            hooks.on(event, self._count_end)
        hooks.on(JobsClaimed, lambda event: self._claimed.inc(event.count))
        hooks.on(ClaimFailed, lambda _: self._claims_failed.inc())
        hooks.on(ListenLost, lambda _: self._listen_lost.inc())
        hooks.on(WorkersRecovered, lambda event: self._recovered.inc(event.jobs))
        hooks.on(CronJobScheduled, lambda event: self._cron.labels(event.entry.identifier).inc())

    def pages(self) -> Pages:
        """Return the page `/metrics`, for `serve_pages`."""

        async def metrics() -> Page:
            await self.refresh()
            return Page(
                content_type=prometheus.CONTENT_TYPE_LATEST, body=prometheus.generate_latest(self.registry)
            )

        return {"/metrics": metrics}

    async def refresh(self) -> None:
        """Count the backlog if it is due. Call it before a scrape unless `pages` serves the registry."""
        worker = next(iter(self._workers.values()), None)
        if worker is None or self._backlog_interval is None:
            return
        if trio.current_time() - self._counted_at < self._backlog_interval:
            return
        self._counted_at, self._backlog = trio.current_time(), None
        try:
            with trio.move_on_after(_BACKLOG_TIMEOUT):
                self._backlog = await worker.backlog()
        except DatabaseError as error:
            _logger.warning("the backlog could not be counted: %s", error)

    @property
    def backlog(self) -> Backlog | None:
        """The last count of the backlog; None if there was none, or if it failed."""
        return self._backlog

    @property
    def dropped(self) -> int:
        """The number of events that were dropped, by running workers and by those that have ended."""
        return self._dropped + sum(each.events_dropped for each in self.statistics())

    def statistics(self) -> list[WorkerStatistics]:
        """Return what each running worker is doing."""
        return [worker.statistics() for worker in self._workers.values()]

    # --- counting -------------------------------------------------------------------------------

    def _make_counters(self, buckets: Sequence[float]) -> None:
        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"trio_graphile_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str) -> prometheus.Histogram:
            return prometheus.Histogram(
                f"trio_graphile_{name}", text, ["task"], buckets=buckets, registry=self.registry
            )

        self._started = counter("jobs_started", "Runs that have begun.", "task")
        self._ended = counter(
            "jobs_ended", "Runs that have ended, by what became of them.", "task", "outcome"
        )
        self._run_time = histogram("job_run_seconds", "How long runs took that completed or failed.")
        self._wait_time = histogram("job_wait_seconds", "How long jobs were due before they were claimed.")
        self._claimed = counter("jobs_claimed", "Jobs that were claimed.")
        self._claims_failed = counter("claims_failed", "Claims that failed, and were repeated.")
        self._listen_lost = counter("listen_lost", "How often the session for notifications was lost.")
        self._recovered = counter("jobs_recovered", "Jobs of dead workers that were given back.")
        self._cron = counter("cron_jobs", "Recurring jobs that were added.", "entry")

    def _add(self, event: WorkerStarting, worker: ObservedWorker) -> None:
        self._workers[event.worker_id] = worker

    def _remove(self, event: WorkerEnded) -> None:
        worker = self._workers.pop(event.worker_id, None)
        if worker is not None:
            self._dropped += worker.statistics().events_dropped

    def _count_start(self, event: JobStarted) -> None:
        job = event.job
        self._started.labels(job.task_identifier).inc()
        if job.locked_at is not None:  # both times are the database's
            waited = (job.locked_at - job.run_at).total_seconds()
            self._wait_time.labels(job.task_identifier).observe(max(waited, 0.0))

    def _count_end(self, event: JobEvent) -> None:
        task = event.job.task_identifier
        self._ended.labels(task, _OUTCOMES[type(event)]).inc()
        if isinstance(event, (JobCompleted, JobFailed, JobFailedPermanently)):
            self._run_time.labels(task).observe(event.duration)


class _Gauges:
    """Reads gauges at each scrape, so that nothing has to keep them up to date between scrapes."""

    def __init__(self, plugin: Prometheus) -> None:
        self._plugin = plugin

    def collect(self) -> Iterator[Any]:
        statistics = self._plugin.statistics()
        yield from _of_workers(statistics)
        dropped = CounterMetricFamily("trio_graphile_events_dropped", "Events that reached no observer.")
        dropped.add_metric([], self._plugin.dropped)
        yield dropped
        if (backlog := self._plugin.backlog) is not None:
            yield from _of_backlog(backlog)


def _of_workers(workers: Iterable[WorkerStatistics]) -> Iterator[GaugeMetricFamily]:
    """Yield sums over the workers of this process, and for ages the maximum."""
    workers = list(workers)
    up = sum(each.phase in (WorkerPhase.RUNNING, WorkerPhase.STOPPING) for each in workers)
    ready = sum(health_of(each, HealthOptions()).is_ready for each in workers)
    listening = sum(each.listen_state is ListenState.LISTENING for each in workers)
    yield _gauge("worker_up", "Workers of this process that run.", up)
    yield _gauge("worker_ready", "Workers of this process that do their work.", ready)
    yield _gauge("worker_listening", "Workers of this process that listen for new jobs.", listening)
    yield _gauge("slots", "How many jobs can run at once.", sum(each.slots for each in workers))
    yield _gauge("slots_busy", "How many jobs run.", sum(each.busy for each in workers))
    yield _gauge("slots_idle", "Slots that wait for a job.", sum(each.idle for each in workers))
    paused = sum(each.paused for each in workers)
    yield _gauge("slots_paused", "Slots that wait for outcomes to be written.", paused)
    standing = sum(bool(each.standstills) for each in workers)
    yield _gauge("worker_standing_still", "Workers of this process in which something has died.", standing)
    yield _gauge("local_queue_jobs", "Jobs that wait for a slot.", sum(each.held for each in workers))
    unrecorded = sum(each.unrecorded for each in workers)
    yield _gauge("outcomes_waiting", "Outcomes that are not written yet.", unrecorded)
    waiting = sum(each.events_waiting for each in workers)
    yield _gauge("events_waiting", "Events that wait for their observers.", waiting)
    ages = [each.heartbeat_age for each in workers if each.heartbeat_age is not None]
    yield _gauge("heartbeat_age_seconds", "How long ago a lease was renewed last.", max(ages, default=0.0))
    lag = max((each.loop_lag for each in workers), default=0.0)
    yield _gauge("loop_lag_seconds", "How late the event loop was.", lag)
    pending = max((each.claim_pending for each in workers), default=0.0)
    yield _gauge("claim_pending_seconds", "For how long the claim under way has been tried.", pending)
    pending = max((each.record_pending for each in workers), default=0.0)
    yield _gauge("record_pending_seconds", "For how long outcomes have been tried to be written.", pending)


def _of_backlog(backlog: Backlog) -> Iterator[GaugeMetricFamily]:
    jobs = GaugeMetricFamily(
        "trio_graphile_backlog_jobs", "Jobs of the whole queue, by state.", labels=["state"]
    )
    for state in ("ready", "scheduled", "locked", "failed"):
        jobs.add_metric([state], getattr(backlog, state))
    yield jobs
    oldest = backlog.oldest_ready or 0.0
    yield _gauge("backlog_oldest_ready_seconds", "For how long the oldest ready job has been due.", oldest)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"trio_graphile_{name}", text, value=value)
