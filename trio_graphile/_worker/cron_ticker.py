"""The cron ticker: adds the jobs of a crontab when they are due, each once in the whole fleet.

It goes by the clock of its machine. Workers whose clocks differ still add each job once, since they agree in
the database: the first worker whose clock shows the time adds the job, and it is run by the database's clock.
A clock that is far ahead would add jobs too early, and no other worker could add them at the right time. So
the database refuses times that are more than a minute ahead of its own clock.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import attrs
import trio

from trio_graphile._cron.due import INSTANT, Agenda, Firing, Plan, backfill
from trio_graphile._cron.item import CronItem, job_of_item
from trio_graphile._database.connection import Connection
from trio_graphile._database.crontabs import CronJob, register_crontabs, schedule_cron_jobs
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed
from trio_graphile._interceptors.additions import intercept_cron_jobs
from trio_graphile._interceptors.chains import Chains
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.options import CronOptions
from trio_graphile._worker.brief_session import brief_session
from trio_graphile._worker.emitter import Emitter
from trio_graphile.hooks._worker_events import (
    CronFailed,
    CronJobScheduled,
    CronOverdue,
    CronStarted,
    CronTicked,
)

logger = logging.getLogger("trio_graphile.worker")

_FIRST_PAUSE = 0.2
"""How long after a first failure cron is tried again, in seconds."""
_LONGEST_PAUSE = 60.0
"""The longest time between a failure and the next attempt, in seconds."""
_TOLERANCE = 60.0
"""How far our clock may be ahead of the database's, in seconds. No less than the longest pause, so that a
retry is not too late."""
_LATE = 60.0
"""How late jobs have to be for a warning, in seconds."""
_SET_BACK = 1.0
"""How far a clock has to be set back for that to be noticed, in seconds: small steps are normal."""
_LONGEST_WAIT = 20.0
"""The longest wait in one piece, in seconds. So a change of the clock is noticed, and the end of a sleep of
the machine."""


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> datetime:
        """Return the time, with a zone."""
        ...

    async def wait_until(self, at: datetime) -> None:
        """Wait until a time, or return earlier: the caller looks at the clock again."""
        ...


class SystemClock:
    """The clock of this machine. Its time zone does not matter."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    async def wait_until(self, at: datetime) -> None:
        """Wait until a time, but at most 20 seconds, so that a change of the clock is noticed."""
        left = (at - self.now()).total_seconds()
        await trio.sleep(min(max(left, 0.0), _LONGEST_WAIT))


class ClockAhead(Exception):
    """The clock of this machine is ahead of the database's by more than a minute."""


@attrs.define(eq=False, kw_only=True)
class CronTicker:
    """Adds jobs while its worker takes jobs. A failure is tried again; none ends the worker."""

    _items: Sequence[CronItem]
    _options: CronOptions
    _clock: Clock
    _database: Database
    _cancel_timeout: float
    """How long a statement may take to end after a cancellation, in seconds."""
    _chains: Chains
    """Has interceptors that may change which jobs are added, and with what payload."""
    _emitter: Emitter
    _done_before: datetime = attrs.field(
        init=False, default=attrs.Factory(lambda self: self._clock.now(), takes_self=True)
    )
    """All jobs of times before this are added, except those that are to be backfilled."""

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Add jobs until cancelled. Started once the entries are registered, or that has failed once."""
        delays = backoff_delays(first=_FIRST_PAUSE, cap=_LONGEST_PAUSE, factor=1.5)
        while True:
            began = trio.current_time()
            try:
                plan = await self._register()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._carry_out(plan)
                await self._tick()
            except Exception as error:  # noqa: BLE001  # whatever it is, jobs can still be run
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                if trio.current_time() - began > _LONGEST_PAUSE:
                    delays = backoff_delays(first=_FIRST_PAUSE, cap=_LONGEST_PAUSE, factor=1.5)
                delay = next(delays)
                logger.warning("cron failed, next try in %.1f s: %s: %s", delay, type(error).__name__, error)
                self._emitter.emit(CronFailed, error=str(error), retry_in=delay)
                await trio.sleep(delay)

    async def _register(self) -> Plan:
        """Register the entries; return the jobs to be added for times that were missed."""
        now = self._clock.now()
        # If the clock was set back, the later time was wrong.
        self._done_before = min(self._done_before, now)
        async with brief_session(self._database, "cron", self._cancel_timeout) as connection:
            known = await register_crontabs(connection, [item.identifier for item in self._items], now)
        for identifier, record in known.items():
            if record.last_execution is not None and record.last_execution > now + timedelta(seconds=_LATE):
                until = record.last_execution.isoformat()
                logger.warning("cron entry %s: its jobs up to %s were added already", identifier, until)
        entries = tuple(item.identifier for item in self._items)
        self._emitter.emit(CronStarted, entries=entries, at=self._done_before)
        return backfill(self._items, known, self._done_before, self._options)

    async def _tick(self) -> None:
        """Add jobs as they are due, until cancelled."""
        agenda = Agenda(self._items, self._done_before)
        latest = self._done_before
        while True:
            await self._clock.wait_until(agenda.next_at)
            now = self._clock.now()
            if (back := (latest - now).total_seconds()) > _SET_BACK:
                # The agenda may be far ahead now. A new one adds no job twice: the database prevents that.
                logger.warning("the clock was set back by %.0f s", back)
                self._done_before = now
                agenda = Agenda(self._items, now)
            latest = now
            plan = agenda.take(now, self._options)
            if plan.firings and (late := (now - plan.firings[0].at).total_seconds()) > _LATE:
                logger.warning("cron is late by %.0f s: the machine slept, or its clock was set", late)
                self._emitter.emit(CronOverdue, late=late)
            await self._carry_out(plan)

    async def _carry_out(self, plan: Plan) -> None:
        for skipped in plan.skipped:
            logger.warning(
                "cron entry %s: no jobs are added for its times from %s to before %s, as they were missed",
                skipped.item.identifier,
                skipped.since.isoformat(),
                skipped.before.isoformat(),
            )
        if not plan.firings:
            return
        refusals: list[StatementFailed] = []
        async with brief_session(self._database, "cron", self._cancel_timeout) as connection:
            for firing in plan.firings:
                try:
                    await self._fire(connection, firing)
                except StatementFailed as error:
                    if error.transient:
                        raise
                    refusals.append(error)  # other entries and later times may still work
                if not refusals:
                    self._done_before = max(self._done_before, firing.at + INSTANT)
        if refusals:
            raise refusals[0]

    async def _fire(self, connection: Connection, firing: Firing) -> None:
        self._emitter.emit(CronTicked, at=firing.at, entries=firing.items, backfilled=firing.backfilled)
        jobs = _jobs_of(firing)
        if self._chains.before_job_schedule:
            jobs = await intercept_cron_jobs(self._chains, jobs)
        scheduled = await schedule_cron_jobs(connection, firing.at, jobs, tolerance=_TOLERANCE)
        ahead = (firing.at - scheduled.now).total_seconds()
        if ahead > _TOLERANCE:
            raise ClockAhead(f"the clock of this machine is ahead of the database's by over {ahead:.0f} s")
        for entry, job_id in scheduled.job_ids.items():
            logger.info("cron entry %s: added job %d for %s", entry, job_id, firing.at.isoformat())
        for item in firing.items:
            if (added := scheduled.job_ids.get(item.identifier)) is not None:
                self._emitter.emit(
                    CronJobScheduled, entry=item, at=firing.at, job_id=added, backfilled=firing.backfilled
                )


def _jobs_of(firing: Firing) -> list[CronJob]:
    """Return the jobs of one time."""
    return [
        CronJob(item.identifier, job_of_item(item, firing.at, backfilled=firing.backfilled))
        for item in firing.items
    ]
