"""End a worker's run at its k-th scheduling point, for every k, and look at what is left in the database.

A scheduling point is a step of any Trio task, the bridge's asyncio loop included: everything that can happen
between two steps is covered by ending the run at each of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from tests.scenarios.onlookers import Onlookers
from tests.scenarios.tempers import REASON, FailingRegistry, Journal, make_tasks
from tests.worker.clocks import HandClock
from trio_graphile import (
    Client,
    CronItem,
    Database,
    DatabaseError,
    LocalQueueOptions,
    ObserverOptions,
    ProcessOptions,
    ShutdownOptions,
    ShutdownReport,
    Worker,
    WorkerCrashed,
    WorkerOptions,
)
from trio_graphile._database.connection import Row
from trio_graphile._database.session import persist

GRACE_PERIOD = 0.02
FLUSH_TIMEOUT = 4.0
SLACK = 2.0
"""For a slow machine: the bound itself is what is tested, not the machine."""


class ActAt(trio.abc.Instrument):
    """Counts the steps of all Trio tasks and acts before the k-th."""

    def __init__(self, point: int | None, act: Callable[[], None]) -> None:
        self.count = 0
        self._point = point
        self._act = act

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  # the interface's name
        self.count += 1
        if self.count == self._point:
            self._act()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)


@attrs.frozen(kw_only=True)
class Scenario:
    """Jobs to add, and how the undisturbed run would go."""

    concurrency: int
    add: Callable[[Client], Awaitable[None]]
    enough: Callable[[Journal], bool]
    """When an undisturbed run is stopped."""
    once: bool = False
    prefetch: int = 0
    during: Callable[[Client, Journal], Awaitable[None]] | None = None
    """What somebody else does meanwhile."""
    crontab: tuple[CronItem, ...] = ()
    """What adds jobs, at the time at which the clock stands still."""
    hooked: bool = False
    """Whether there are observers and interceptors of every temper."""


REFUSED_PRIORITY = 7
"""The database refuses to delete jobs of this priority: their completion cannot be recorded as such."""

REFUSE_DELETION = f"""
    create or replace function public.refuse_deletion() returns trigger language plpgsql as $$
    begin
      if old.priority = {REFUSED_PRIORITY} and old.locked_by is not null then
        raise exception 'not this one';
      end if;
      return old;
    end
    $$;
    create or replace trigger refuse_deletion before delete on graphile_worker._private_jobs
      for each row execute function public.refuse_deletion()
"""


@attrs.define
class Trial:
    """One run, ended at one point."""

    database: Database
    database_url: str
    scenario: Scenario
    journal: Journal = attrs.field(factory=Journal)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # cancelled, not shielded
    tasks: FailingRegistry = attrs.field(init=False)
    worker: Worker = attrs.field(init=False)
    report: ShutdownReport | None = None
    ended_at: float | None = None
    settling_ids: set[int] = attrs.field(factory=set)
    """Jobs that are completed by their handlers."""
    unseen_ids: set[int] = attrs.field(factory=set)
    """Jobs whose handlers run in processes, where there is no journal."""
    onlookers: Onlookers = attrs.field(factory=Onlookers)

    def __attrs_post_init__(self) -> None:
        self.tasks = make_tasks(self.journal)
        options = WorkerOptions(
            concurrency=self.scenario.concurrency,
            poll_interval=0.5,
            local_queue=LocalQueueOptions(size=self.scenario.prefetch),
            processes=ProcessOptions(count=1),
            shutdown=ShutdownOptions(grace_period=GRACE_PERIOD, flush_timeout=FLUSH_TIMEOUT),
            observers=ObserverOptions(timeout=0.01),
        )
        self.worker = Worker(
            self.database,
            self.tasks,
            options,
            crontab=self.scenario.crontab,
            clock=HandClock(),
            plugins=[self.onlookers] if self.scenario.hooked else [],
        )

    def note_end(self) -> None:
        self.ended_at = trio.current_time()

    async def run(self) -> None:
        with self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._stop_when_enough)
                    if self.scenario.during is not None:
                        nursery.start_soon(self.scenario.during, Client(self.database), self.journal)
                    if self.scenario.once:
                        self.report = await self.worker.run_once()
                    else:
                        self.report = await self.worker.run()
                    nursery.cancel_scope.cancel()
            except* WorkerCrashed:
                assert self.tasks.broken
            except* (LookupError, DatabaseError):  # what keeps a worker from starting is raised as it is
                assert not self.journal.finished | self.journal.raised.keys()

    async def _stop_when_enough(self) -> None:
        if not self.scenario.once:
            await self.journal.wait_until(lambda: self.scenario.enough(self.journal))
            self.worker.stop()

    async def _fetch(self, sql: str) -> list[Row]:
        return await persist(lambda: self.database.fetch(sql), what="looking")

    async def check(self) -> tuple[int, int]:
        """Nothing is locked, every job has one of its fates, and the right number of attempts.

        Returns how many jobs are left and how many were completed.
        """
        rows = await self._fetch("""
            select jobs.id, tasks.identifier as task, jobs.priority, jobs.attempts, jobs.max_attempts,
              jobs.locked_by, jobs.last_error, jobs.run_at > now() as later, jobs.payload::text as payload
            from graphile_worker._private_jobs as jobs
            join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
        """)
        left = {row["id"]: row for row in rows}
        locked_queues = await self._fetch("""
            select queue_name
            from graphile_worker._private_job_queues
            where locked_by is not null or locked_at is not null
        """)
        journal = self.journal
        assert not journal.violations, journal.violations
        assert not journal.running, "a handler outlived the run"
        assert not locked_queues, "a queue is locked"
        assert not [row for row in rows if row["locked_by"] is not None], "a job is locked"
        await self._check_effects(left.keys())
        journal.finished |= self.unseen_ids - left.keys()
        refused = {row["id"] for row in rows if row["priority"] == REFUSED_PRIORITY} & journal.finished
        assert not journal.finished & left.keys() - refused, "a finished job is still there"
        for id_, row in left.items():
            self._check_fate(row, refused=id_ in refused)
        if self.report is not None:
            counts = (self.report.completed, self.report.failed, self.report.lost)
            failed = journal.raised.keys() | refused | self._cancelled(left.values())
            expected = (len(journal.finished - refused), len(failed), 0)
            assert counts == expected, f"reported {counts}, but it was {expected}"
            assert not self.report.abandoned
        if self.scenario.hooked:
            self.onlookers.check(self.report, journal)
        return len(left), len(journal.finished - refused)

    async def added_by_crontab(self) -> int:
        """Return for how many times jobs were added, as the entries say: a minute lies between."""
        [row] = await self._fetch("""
            select coalesce(sum(extract(epoch from last_execution - known_since) / 60), 0)::integer as count
            from graphile_worker._private_known_crontabs
        """)
        return int(row["count"])

    async def _check_effects(self, left: Collection[int]) -> None:
        """What handlers wrote in one transaction with the end of their jobs is there if these are not."""
        effects = {row["job_id"] for row in await self._fetch("select job_id from public.effects")}
        assert effects == self.settling_ids.difference(left)
        for id_ in effects:  # whatever its handler was told of the commit
            self.journal.raised.pop(id_, None)
        self.journal.finished |= effects

    def _check_fate(self, row: Row, *, refused: bool) -> None:
        journal, id_ = self.journal, row["id"]
        fate = (row["attempts"], row["last_error"], row["later"])
        if refused:
            assert (row["attempts"], row["later"]) == (1, True)
            assert "not this one" in row["last_error"]
        elif id_ in journal.raised:
            assert fate == (1, journal.raised[id_], True)
            if row["task"] == "batch":
                assert row["payload"] == "[2]", "the wrong items are left"
        elif id_ in journal.snoozed:
            assert fate == (0, None, True)
        elif row["last_error"] == REASON:
            assert row["attempts"] == row["max_attempts"]
            assert id_ in journal.cancel_requested
        else:
            assert fate == (0, None, False), dict(row)

    def _cancelled(self, left: Iterable[Row]) -> set[int]:
        """Return the jobs that were cancelled while they ran."""
        return {row["id"] for row in left if row["last_error"] == REASON} & self.journal.interrupted


Ending = Callable[[Trial], None]


def _break_a_service(trial: Trial) -> None:
    trial.tasks.broken = True


def _lose_connections(trial: Trial) -> None:
    """Have the server drop every session of the trial's database, as an administrator would."""
    name = urlsplit(trial.database_url).path.removeprefix("/")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (process / "cmdline").read_text()
            if title.startswith("postgres: ") and f" {name} " in title:
                os.kill(int(process.name), signal.SIGTERM)


ENDINGS: dict[str, Ending] = {
    "stop": lambda trial: trial.worker.stop(),
    "worker_cancel": lambda trial: trial.worker.cancel(),
    "outer_cancel": lambda trial: trial.scope.cancel(),
    "broken_service": _break_a_service,
    "lost_connections": _lose_connections,
}


_PROMPT = (ENDINGS["stop"], ENDINGS["worker_cancel"], ENDINGS["outer_cancel"])


EMPTY = """
    update graphile_worker._private_jobs set locked_by = null;
    delete from graphile_worker._private_jobs;
    delete from graphile_worker.trio_graphile_cancellations;
    create table if not exists public.effects (job_id bigint primary key);
    delete from public.effects;
    delete from graphile_worker._private_job_queues;
    delete from graphile_worker._private_known_crontabs
"""


async def end_at(
    database: Database, database_url: str, scenario: Scenario, point: int | None, ending: Ending
) -> int:
    """Run the scenario afresh, end it at a point, check what is left; return how many points there were."""
    await persist(lambda: database.execute(EMPTY), what="emptying")
    trial = Trial(database, database_url, scenario)
    client = Client(database, trial.tasks)
    await scenario.add(client)
    jobs = await database.fetch("select id, task_identifier from graphile_worker.jobs")
    trial.settling_ids = {row["id"] for row in jobs if row["task_identifier"] == "settling"}
    trial.unseen_ids = {row["id"] for row in jobs if row["task_identifier"] == "computing"}

    def act() -> None:
        trial.note_end()
        ending(trial)

    instrument = ActAt(point, act)
    with trio.fail_after(30), instrument.installed():
        await trial.run()
    ended = trio.current_time()
    left, completed = await trial.check()
    expected = len(jobs) + await trial.added_by_crontab()
    assert left + completed == expected, "a job was lost, or added twice"
    if trial.ended_at is not None and ending in _PROMPT:
        assert ended - trial.ended_at <= GRACE_PERIOD + FLUSH_TIMEOUT + SLACK
    return instrument.count
