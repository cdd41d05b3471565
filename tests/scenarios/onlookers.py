"""Observers and interceptors of every temper, and what they must have seen at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from tests.scenarios.journal import Journal
from trio_graphile import ShutdownReport
from trio_graphile.hooks import (
    Event,
    Hooks,
    JobCompleted,
    JobFailed,
    JobRun,
    JobStarted,
    WorkerEnded,
    WorkerStarting,
)


@attrs.define(eq=False)
class Onlookers:
    """Notes all events; some observers raise or hang, some interceptors wait, and none changes anything."""

    events: list[Event] = attrs.field(factory=list)
    inside: list[int] = attrs.field(factory=list)
    """The jobs around whose runs something is at the moment."""

    def register(self, hooks: Hooks) -> None:
        hooks.on(Event, self.events.append)
        hooks.on(JobStarted, self._raise)
        hooks.on(JobCompleted, self._wait)
        hooks.on(JobFailed, self._hang)
        hooks.on(WorkerEnded, self._hang)
        hooks.around_job_run(self._around)
        hooks.before_job_run(self._wait)
        hooks.after_job_run(self._wait)

    def _raise(self, _: Event) -> None:
        raise LookupError("not our day")

    async def _wait(self, _: object) -> None:
        await trio.lowlevel.checkpoint()

    async def _hang(self, _: object) -> None:
        await trio.sleep_forever()

    @contextmanager
    def _around(self, run: JobRun) -> Iterator[None]:
        self.inside.append(run.job.id)
        try:
            yield
        finally:
            self.inside.remove(run.job.id)

    def check(self, report: ShutdownReport | None, journal: Journal) -> None:
        """The first and the last event are there, whatever happened, and what is told is true."""
        assert not self.inside, "something that was entered was not left"
        kinds = [type(event) for event in self.events]
        assert kinds.count(WorkerStarting) == kinds.count(WorkerEnded) == bool(kinds)
        if not kinds:
            return  # it was stopped before it began
        assert (kinds[0], kinds[-1]) == (WorkerStarting, WorkerEnded)
        completed = [event.job.id for event in self.events if isinstance(event, JobCompleted)]
        assert len({*completed}) == len(completed), "told twice"
        assert {*completed} <= journal.finished, "told of what did not happen"
        if report is not None:
            assert len(completed) == report.completed, "not all was told"
            [ended] = [event for event in self.events if isinstance(event, WorkerEnded)]
            assert ended.report == report
