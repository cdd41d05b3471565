"""End a worker's run at its k-th scheduling point, for every k, and look at what is left in the database.

A scheduling point is a step of any Trio task, the bridge's asyncio loop included: everything that can happen
between two steps is covered by ending the run at each of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    Job,
    JobContext,
    LocalQueueOptions,
    ShutdownOptions,
    ShutdownReport,
    TaskRegistry,
    Worker,
    WorkerCrashed,
    WorkerOptions,
)
from trio_graphile._database.connection import Row
from trio_graphile._database.session import persist
from trio_graphile._model.failures import describe_error

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


@attrs.define
class Journal:
    """What the handlers themselves know of a run."""

    running: set[int] = attrs.field(factory=set)
    finished: set[int] = attrs.field(factory=set)
    raised: dict[int, str] = attrs.field(factory=dict)
    queues: dict[str, int] = attrs.field(factory=dict)
    violations: list[str] = attrs.field(factory=list)
    progress: trio.Event = attrs.field(factory=trio.Event)

    @contextlib.contextmanager
    def handling(self, job: Job) -> Iterator[None]:
        if job.id in self.running:
            self.violations.append(f"job {job.id} runs twice at once")
        if job.queue_name is not None and self.queues.get(job.queue_name):
            self.violations.append(f"queue {job.queue_name!r} overlaps")
        self.running.add(job.id)
        if job.queue_name is not None:
            self.queues[job.queue_name] = job.id
        try:
            yield
            self.finished.add(job.id)
        except (RuntimeError, DatabaseError) as error:
            self.raised[job.id] = describe_error(error)
            raise
        finally:
            self.running.discard(job.id)
            if job.queue_name is not None:
                self.queues[job.queue_name] = 0
            self.progress.set()

    async def wait_until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            self.progress = trio.Event()
            await self.progress.wait()


class FailingRegistry(TaskRegistry):
    """A registry that breaks: the service that asks it next fails, for no reason that passes."""

    broken = False

    @property
    def identifiers(self) -> tuple[str, ...]:
        if self.broken:
            raise LookupError("the registry is broken")
        return super().identifiers


def make_tasks(journal: Journal) -> FailingRegistry:
    """Return handlers of every temper."""
    tasks = FailingRegistry()

    @tasks.task("instant")
    async def instant(context: JobContext) -> None:
        with journal.handling(context.job):
            pass

    @tasks.task("brief")
    async def brief(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    @tasks.task("failing")
    async def failing(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.lowlevel.checkpoint()
            raise RuntimeError("as it should")

    @tasks.task("family")
    async def family(context: JobContext) -> None:
        """Its own nursery turns a cancellation into a group."""
        with journal.handling(context.job):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)
                nursery.start_soon(trio.lowlevel.checkpoint)

    @tasks.task("asking")
    async def asking(context: JobContext) -> None:
        with journal.handling(context.job):
            await context.database.fetch_value("select 1")

    @tasks.task("endless")
    async def endless(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.sleep_forever()

    return tasks


@attrs.frozen(kw_only=True)
class Scenario:
    """Jobs to add, and how the undisturbed run would go."""

    concurrency: int
    add: Callable[[Client], Awaitable[None]]
    enough: Callable[[Journal], bool]
    """When an undisturbed run is stopped."""
    once: bool = False
    prefetch: int = 0


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

    def __attrs_post_init__(self) -> None:
        self.tasks = make_tasks(self.journal)
        options = WorkerOptions(
            concurrency=self.scenario.concurrency,
            poll_interval=0.5,
            local_queue=LocalQueueOptions(size=self.scenario.prefetch),
            shutdown=ShutdownOptions(grace_period=GRACE_PERIOD, flush_timeout=FLUSH_TIMEOUT),
        )
        self.worker = Worker(self.database, self.tasks, options)

    def note_end(self) -> None:
        self.ended_at = trio.current_time()

    async def run(self) -> None:
        with self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._stop_when_enough)
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
        """Nothing is locked, every job has one of its three fates, and the right number of attempts.

        Returns how many jobs are left and how many were completed.
        """
        rows = await self._fetch("""
            select id, priority, attempts, locked_by, last_error, run_at > now() as later
            from graphile_worker._private_jobs
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
        refused = {row["id"] for row in rows if row["priority"] == REFUSED_PRIORITY} & journal.finished
        assert not journal.finished & left.keys() - refused, "a finished job is still there"
        for id_, row in left.items():
            if id_ in refused:
                assert (row["attempts"], row["later"]) == (1, True)
                assert "not this one" in row["last_error"]
            elif id_ in journal.raised:
                assert (row["attempts"], row["last_error"]) == (1, journal.raised[id_])
                assert row["later"], "no back-off"
            else:
                assert (row["attempts"], row["last_error"], row["later"]) == (0, None, False), dict(row)
        if self.report is not None:
            counts = (self.report.completed, self.report.failed, self.report.lost)
            expected = (len(journal.finished - refused), len(journal.raised.keys() | refused), 0)
            assert counts == expected, f"reported {counts}, but it was {expected}"
        return len(left), len(journal.finished - refused)


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
    delete from graphile_worker._private_job_queues
"""


async def end_at(
    database: Database, database_url: str, scenario: Scenario, point: int | None, ending: Ending
) -> int:
    """Run the scenario afresh, end it at a point, check what is left; return how many points there were."""
    await persist(lambda: database.execute(EMPTY), what="emptying")
    trial = Trial(database, database_url, scenario)
    client = Client(database, trial.tasks)
    await scenario.add(client)
    total = len(await database.fetch("select id from graphile_worker._private_jobs"))

    def act() -> None:
        trial.note_end()
        ending(trial)

    instrument = ActAt(point, act)
    with trio.fail_after(30), instrument.installed():
        await trial.run()
    ended = trio.current_time()
    left, completed = await trial.check()
    assert left + completed == total, "a job was lost"
    if trial.ended_at is not None and ending in _PROMPT:
        assert ended - trial.ended_at <= GRACE_PERIOD + FLUSH_TIMEOUT + SLACK
    return instrument.count
