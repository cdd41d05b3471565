"""One run of a worker: what it has to do, what happens to it, and what is known of it at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

import attrs
import trio

from tests.scenarios.journal import Journal
from tests.scenarios.neighbours import Neighbour
from tests.scenarios.onlookers import Onlookers
from tests.scenarios.rivals import Rival
from tests.scenarios.tempers import make_tasks
from tests.support.tempers import FailingRegistry
from tests.worker.clocks import HandClock
from trio_graphile import (
    Client,
    CronItem,
    Database,
    DatabaseError,
    DatabaseOptions,
    LeaseOptions,
    LocalQueueOptions,
    ObserverOptions,
    PresenceOptions,
    ProcessOptions,
    RecoveryOptions,
    ShutdownIncomplete,
    ShutdownOptions,
    ShutdownReport,
    Worker,
    WorkerCrashed,
    WorkerOptions,
)

GRACE_PERIOD = 0.02
FLUSH_TIMEOUT = 4.0


@attrs.frozen(kw_only=True)
class Scenario:
    """Jobs to add, and how the undisturbed run would go."""

    concurrency: int
    add: Callable[[Client], Awaitable[None]]
    enough: Callable[[Journal], bool]
    """When an undisturbed run is stopped."""
    once: bool = False
    prefetch: int = 0
    poll_interval: float = 0.5
    during: Callable[[Trial], Awaitable[None]] | None = None
    """What somebody else does meanwhile."""
    crontab: tuple[CronItem, ...] = ()
    """What adds jobs, at the time at which the clock stands still."""
    hooked: bool = False
    """Whether there are observers and interceptors of every temper."""
    database: DatabaseOptions = attrs.field(factory=DatabaseOptions)
    lease: LeaseOptions = attrs.field(factory=LeaseOptions)
    presence: PresenceOptions = attrs.field(factory=PresenceOptions)
    most_unwritten: int | None = None
    """How many outcomes may wait to be written, if fewer than usual."""
    locked: str | None = None
    """What somebody locks before the worker starts, until a while after it has come to wait for it; if it is
    ended meanwhile, until it has ended."""
    prestart: bool = False
    """Whether the worker starts its process before it takes jobs."""
    installs: bool = False
    """Whether there is no schema before."""
    looks_back: bool = False
    """Whether claims behave as if a million dead rows were in front."""
    does_chores: bool = False
    """Whether maintenance is due at once, and the first claim forgets one of the jobs that it brought."""
    unwritable: int | None = None
    """The database refuses to let go of jobs of this priority: they are named, and nothing else is left."""


@attrs.define
class Trial:
    """One run, ended at one point."""

    database: Database
    """The worker's."""
    observer: Database
    """Everybody else's."""
    database_name: str
    scenario: Scenario
    journal: Journal = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # cancelled, not shielded
    tasks: FailingRegistry = attrs.field(init=False)
    worker: Worker = attrs.field(init=False)
    neighbour: Neighbour = attrs.field(init=False)
    rival: Rival = attrs.field(init=False)
    report: ShutdownReport | None = None
    incomplete: ShutdownIncomplete | None = None
    ended_at: float | None = None
    job_ids: dict[int, str] = attrs.field(factory=dict)
    """The jobs that were added before it, and their tasks."""
    onlookers: Onlookers = attrs.field(factory=Onlookers)

    def __attrs_post_init__(self) -> None:
        scenario = self.scenario
        self.journal = Journal(parties=scenario.concurrency)
        self.tasks = make_tasks(self.journal)
        self.neighbour = Neighbour(self.observer)
        options = WorkerOptions(
            concurrency=scenario.concurrency,
            poll_interval=scenario.poll_interval,
            local_queue=LocalQueueOptions(size=scenario.prefetch),
            lease=scenario.lease,
            recovery=RecoveryOptions(presence=scenario.presence),
            processes=ProcessOptions(count=1, prestart=scenario.prestart),
            shutdown=ShutdownOptions(grace_period=GRACE_PERIOD, flush_timeout=FLUSH_TIMEOUT),
            observers=ObserverOptions(timeout=0.01),
        )
        self.worker = Worker(
            self.database,
            self.tasks,
            options,
            crontab=scenario.crontab,
            clock=HandClock(),
            plugins=[self.onlookers] if scenario.hooked else [],
        )
        self.rival = Rival(
            self.observer,
            self.worker.worker_id,
            self.journal,
            self.worker.statistics,
            is_ending=lambda: self.ended_at is not None,
        )

    def note_end(self) -> None:
        self.ended_at = trio.current_time()

    async def run(self, counted: AbstractContextManager[None]) -> None:
        """Run the worker to its end, which is the end of whatever happens beside it, too."""
        async with trio.open_nursery() as beside:
            if self.scenario.locked is not None:
                await beside.start(self.neighbour.obstruct, self.scenario.locked, lambda: self.ended_at)
            beside.start_soon(self.neighbour.run)
            beside.start_soon(self.rival.run)
            with counted, self.scope:
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._stop_when_enough)
                        if self.scenario.during is not None:
                            nursery.start_soon(self.scenario.during, self)
                        await self._work()
                        nursery.cancel_scope.cancel()
                except* WorkerCrashed:
                    if not self.tasks.broken:
                        raise
                except* ShutdownIncomplete as group:
                    [self.incomplete] = group.exceptions  # type: ignore[assignment]  # a group has no better type
                except* (LookupError, DatabaseError):  # what keeps a worker from starting is raised as it is
                    if self.journal.finished | self.journal.raised.keys():
                        raise
            beside.cancel_scope.cancel()

    async def _work(self) -> None:
        if self.scenario.once:
            self.report = await self.worker.run_once()
        else:
            self.report = await self.worker.run(task_status=self.journal)

    async def _stop_when_enough(self) -> None:
        if not self.scenario.once:
            await self.journal.wait_until(lambda: self.scenario.enough(self.journal))
            await self.rival.wait_done()
            self.worker.stop()
