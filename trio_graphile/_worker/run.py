"""One run of a worker: its services, in nurseries that are nested in the order in which they end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import attrs
import trio

from trio_graphile._exceptions import DatabaseError
from trio_graphile._interceptors.raised import is_cancellation
from trio_graphile._model.options import ShutdownOptions
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._model.statistics import WorkerStatistics
from trio_graphile._worker.run_error import Unwritten, run_error_of
from trio_graphile._worker.run_settings import RunSettings
from trio_graphile._worker.services import Services

logger = logging.getLogger("trio_graphile.worker")

# Each is a share of `flush_timeout`, and they are used in this order: the time in which a statement or a
# thread has to end after a cancellation, that of idle processes, that of the flush, and once more the first,
# for the last statement of the flush. The share of observers, if there are any, is taken from that of the
# flush.
_CANCEL_SHARE = 0.2
_CLOSING_SHARE = 0.1
_FLUSH_SHARE = 0.5
_OBSERVERS_SHARE = 0.1


def cancel_timeout_of(options: ShutdownOptions) -> float:
    """Return how long a statement or a thread may take to end after a cancellation, in seconds."""
    return options.flush_timeout * _CANCEL_SHARE


@attrs.define(eq=False)
class Run:
    """One run of a worker, from its start to its end."""

    settings: RunSettings
    _services: Services = attrs.field(init=False)
    _interrupt: Callable[[], None] = attrs.field(init=False, default=lambda: None)
    """Interrupts the handlers. It does nothing until all services have started; `ending.is_forced` counts
    till then."""
    _unwritten: Unwritten | None = attrs.field(init=False, default=None)
    """The jobs whose outcomes the flush could not write; None if it wrote all."""

    def __attrs_post_init__(self) -> None:
        # A statement of a handler has no more time to end than one of the worker has.
        database = self.settings.database
        database.cancel_timeout = min(database.cancel_timeout, self.settings.cancel_timeout)
        self._services = Services(self.settings)

    def statistics(self) -> WorkerStatistics:
        """Return what the worker does at this moment."""
        watch = self._services.watch
        return attrs.evolve(
            self._services.statistics.now(),
            standstills=watch.standing,
            standstill=0.0 if watch.since is None else trio.current_time() - watch.since,
        )

    def force(self) -> None:
        """Interrupt the handlers."""
        self.settings.ending.is_forced = True
        self._services.events.forced(self._services.runner.jobs)
        self._interrupt()

    @trio.lowlevel.enable_ki_protection
    async def serve(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        """Run from start to end, and emit events. Raises one exception, or a cancellation."""
        limit = self.settings.options.shutdown.flush_timeout * _OBSERVERS_SHARE
        return await self._services.emitter.run_beside(
            partial(self._serve_and_emit, task_status), limit=limit
        )

    async def _serve_and_emit(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        settings, events = self.settings, self._services.events
        events.starting(
            schema=settings.database.schema,
            concurrency=settings.options.concurrency,
            tasks=settings.tasks.identifiers,
        )
        try:
            report = await self._serve(task_status)
        except BaseException as error:
            if is_cancellation(error):
                events.ended(StopCause.CANCELLED)
            else:
                events.ended(None, error=error)
            raise
        events.ended(report.cause, report)
        return report

    async def _serve(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        settings, services = self.settings, self._services
        services.lanes.prepare(settings.tasks)
        settings.tasks.check_state(settings.state)  # of tasks that were registered since
        try:
            if await self._prepare():
                await self._nest_as_one(task_status)
            else:
                task_status.started()
                self._raise_if_unwritten()
        finally:
            await services.presence.aclose()  # noqa: ASYNC102  # each session at most a second, none if cancelled
        report = ShutdownReport(
            worker_id=settings.worker_id,
            cause=settings.ending.cause,
            abandoned=tuple(services.lanes.abandoned),
            seconds=trio.current_time() - settings.ending.at,
            **attrs.asdict(services.recorder.counts),
        )
        logger.info("ended: %s", report)
        return report

    async def _prepare(self) -> bool:
        """Arrive in the database; return False if the worker has to end before: then it has left again."""
        ending, is_ready = self.settings.ending, False
        try:
            with ending.cuts_short():
                await self._services.presence.arrive(releases_old_locks=self.settings.drains)
            is_ready = not ending.begun.is_set()
            if not is_ready:
                self._note_ending()
        finally:
            if not is_ready:
                await self._flush()  # noqa: ASYNC102  # shielded and bounded inside
        return is_ready

    async def _nest_as_one(self, task_status: trio.TaskStatus[None]) -> None:
        """Run the nest; raise one exception for all errors that ended it."""
        try:
            await self._nest(task_status)
        except BaseException as raised:
            error = run_error_of(raised, self._unwritten, self.settings.worker_id)
            if error is None:
                raise
            raise error from raised  # noqa: ASYNC104  # None if there is only a cancellation
        self._raise_if_unwritten()

    def _raise_if_unwritten(self) -> None:
        error = run_error_of(None, self._unwritten, self.settings.worker_id)
        if error is not None:
            raise error

    async def _nest(self, task_status: trio.TaskStatus[None]) -> None:
        """Presence outlives recording, recording outlives handling, handling outlives intake."""
        services, options, ending = self._services, self.settings.options, self.settings.ending
        closing_timeout = options.shutdown.flush_timeout * _CLOSING_SHARE
        async with trio.open_nursery() as presence:
            try:
                await presence.start(services.lease.run, name="lease")
                if not self.settings.drains:
                    await presence.start(services.sweeper.run, name="sweeper")
                async with trio.open_nursery() as recording:
                    await recording.start(services.recorder.run, name="recorder")
                    recording.start_soon(services.cancellations.run, name="cancellations")
                    async with services.lanes.open(closing_timeout), trio.open_nursery() as handling:
                        for number in range(options.concurrency):
                            handling.start_soon(services.runner.run_all, name=f"slot {number}")
                        async with trio.open_nursery() as intake:
                            with ending.cuts_short():
                                await self._start_intake(intake)
                            nest = (presence, recording, handling, intake)
                            presence.start_soon(services.watch.run, nest, name="watch")
                            task_status.started()
                            self._interrupt = handling.cancel_scope.cancel
                            await ending.begun.wait()
                            self._note_ending()
                            intake.cancel_scope.cancel()
                            if ending.is_forced:  # during the start, maybe, when `_interrupt` did nothing
                                self._interrupt()
                        recording.start_soon(self._end_grace_period, name="grace period")
                    recording.cancel_scope.cancel()
            finally:
                services.sweeper.stop()  # what it finds must not come after `_leave` has asked for it
                try:
                    await self._flush()  # noqa: ASYNC102  # shielded and bounded inside
                finally:
                    services.lease.stop()
            presence.cancel_scope.cancel()

    async def _start_intake(self, intake: trio.Nursery) -> None:
        """Start the services that bring jobs."""
        services = self._services
        if self.settings.drains:
            services.events.started()
            intake.start_soon(self._drain, name="prefetcher")
            return
        await services.lanes.prestart()
        if services.listener is not None:
            await intake.start(services.listener.run, name="listener")
        services.events.started()
        await intake.start(services.prefetcher.run, name="prefetcher")
        if self.settings.crontab:
            await intake.start(services.cron_ticker.run, name="cron ticker")

    async def _drain(self) -> None:
        await self._services.prefetcher.drain()
        self.settings.ending.begin(StopCause.DRAINED)

    def _note_ending(self) -> None:
        services, grace_period = self._services, self.settings.options.shutdown.grace_period
        if running := services.runner.jobs:
            services.lease.renew()  # if somebody kills us meanwhile, these jobs are not to blame
        services.events.ending(running, grace_period)

    async def _end_grace_period(self) -> None:
        """Interrupt the handlers that still run when the grace period is over."""
        services, options = self._services, self.settings.options.shutdown
        if services.events.has_started:  # else no job runs, and no prefetcher was started
            await trio.sleep_until(self.settings.ending.at + options.grace_period)
        if running := services.runner.jobs:
            services.events.grace_period_over(running)
        self._interrupt()

    async def _flush(self) -> None:
        """Write the last outcomes, make sure that nothing is locked by us, and leave the database."""
        services = self._services
        reason: object = "the database did not answer in time"
        share = _FLUSH_SHARE - (_OBSERVERS_SHARE if services.emitter.has_observers else 0.0)
        limit = self.settings.options.shutdown.flush_timeout * share
        try:
            with trio.move_on_after(limit, shield=True):
                await services.recorder.flush()
                await self._leave()
                await services.recorder.insist()
                refused = services.recorder.refused.values()
                reason = "; ".join({str(each.error) for each in refused}) or None
                await services.presence.pass_on(services.announcements.jobs)
        except DatabaseError as error:
            reason = error
        finally:  # a second Ctrl-C may end it, too
            if reason is not None:
                services.presence.terminate()  # to close them politely would take more time
                held = sorted(job.id for job in services.ledger.snapshot())
                self._unwritten = Unwritten(tuple(held), str(reason))

    async def _leave(self) -> None:
        """Make sure that nothing is locked by us, and remove the worker from the registry."""
        presence = self._services.presence
        was_certain = presence.is_certain
        if not was_certain:
            await presence.release_rest()
        await self._services.lease.end()  # else its last heartbeat might come after that
        await presence.leave()
        if was_certain and not presence.is_certain:  # a session was lost: to a server that failed over, maybe
            await presence.release_rest()
