"""A load of jobs, and a ledger of their runs that knows what should have become of each."""

from __future__ import annotations

import contextlib
import enum
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import attrs
import trio

from tests.scenarios.journal import failure_in
from tests.support.tables import locks
from tests.support.waiting import wait_for_ring
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    DatabaseUnavailable,
    Job,
    JobContext,
    JobSpec,
    TaskRegistry,
)
from trio_graphile._model.bell import Bell

PATIENCE = 30.0
"""How long any wait may take, in seconds, before its test fails."""

EXPECTED = "as it should"
"""What a handler says that fails on purpose."""

_MOST_UNFINISHED = 40
_ADDING_PAUSE = 0.05
"""What a client does that cannot reach the database: wait a little, and try again."""

Kind: TypeAlias = tuple[str, str | None, JobSpec]
"""A task, its payload, and how the job is added."""

KINDS: list[Kind] = [
    ("instant", None, JobSpec()),
    ("brief", None, JobSpec()),
    ("asking", None, JobSpec()),
    ("brief", None, JobSpec(queue_name="first")),
    ("instant", None, JobSpec(queue_name="second")),
    ("brief", None, JobSpec()),
    ("failing_once", None, JobSpec()),
    ("asking", None, JobSpec(queue_name="second")),
    ("brief", None, JobSpec(queue_name="first")),
    ("instant", None, JobSpec()),
]


class Ending(enum.Enum):
    """How a handler ended."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


@attrs.define(eq=False)
class Run:
    """One run of one job's handler."""

    job: Job
    started_at: float = attrs.field(factory=trio.current_time)
    ending: Ending | None = None


@attrs.define(eq=False)
class Load:
    """Short jobs of every kind, added without end, and what their handlers saw."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    added: set[int] = attrs.field(factory=set)
    kinds: Sequence[Kind] = KINDS
    """What is added together."""
    uncertain: int = 0
    """How many jobs may have been added: the answer was lost."""
    runs: dict[int, list[Run]] = attrs.field(factory=lambda: defaultdict(list))
    violations: list[str] = attrs.field(factory=list)
    returned: int = 0
    """How many runs came to their end."""
    release: trio.Event = attrs.field(factory=trio.Event)
    """Lets the jobs end that are held."""
    release_some: trio.Event = attrs.field(factory=trio.Event)
    _enough: bool = False
    _adding_ended: trio.Event = attrs.field(factory=trio.Event)
    _busy_queues: set[str] = attrs.field(factory=set)
    _progress: Bell = attrs.field(factory=Bell)

    def __attrs_post_init__(self) -> None:
        @self.tasks.task("instant")
        async def instant(context: JobContext) -> None:
            with self.running(context.job):
                pass

        @self.tasks.task("brief")
        async def brief(context: JobContext) -> None:
            with self.running(context.job):
                for _ in range(20):
                    await trio.lowlevel.checkpoint()

        @self.tasks.task("failing_once")
        async def failing_once(context: JobContext) -> None:
            with self.running(context.job):
                if context.attempt == 1:
                    raise ValueError(EXPECTED)

        @self.tasks.task("asking")
        async def asking(context: JobContext) -> None:
            with self.running(context.job):
                await context.database.fetch_value("select 1")

        @self.tasks.task("held")
        async def held(context: JobContext) -> None:
            with self.running(context.job):
                await self.release.wait()

        @self.tasks.task("let_go")
        async def let_go(context: JobContext) -> None:
            with self.running(context.job):
                await self.release_some.wait()

    @contextlib.contextmanager
    def running(self, job: Job) -> Iterator[None]:
        """Keep the ledger for one run of a handler."""
        run, queue = self._start(job), job.queue_name
        try:
            yield
        except BaseException as error:
            if failure_in(error) is not None:
                run.ending = Ending.RAISED
            raise
        else:
            run.ending = Ending.RETURNED
            self.returned += 1
        finally:
            if run.ending is None:
                run.ending = Ending.CANCELLED
            if queue is not None:
                self._busy_queues.discard(queue)
            self._note()

    def _start(self, job: Job) -> Run:
        if any(run.ending is None for run in self.runs[job.id]):
            self.violations.append(f"job {job.id} runs twice at once")
        if job.queue_name is not None:
            if job.queue_name in self._busy_queues:
                self.violations.append(f"two jobs of queue {job.queue_name!r} run at once")
            self._busy_queues.add(job.queue_name)
        run = Run(job)
        self.runs[job.id].append(run)
        self._note()
        return run

    def _note(self) -> None:
        self._progress.ring()

    async def wait_until(self, enough: Callable[[], bool]) -> None:
        await wait_for_ring(self._progress, enough, PATIENCE)

    async def wait_started(self, count: int) -> None:
        """Wait until so many jobs run, or have run."""
        await self.wait_until(lambda: len(self.runs) >= count)

    async def wait_returned(self, count: int) -> None:
        """Wait until so many runs more have come to their end."""
        target = self.returned + count
        await self.wait_until(lambda: self.returned >= target)

    async def wait_resumed(self) -> float:
        """Wait until a job ends that was started from now on; return after how many seconds."""
        now = trio.current_time()
        known = {id_: len(runs) for id_, runs in self.runs.items()}
        await self.wait_until(
            lambda: any(
                run.ending is Ending.RETURNED
                for id_, runs in self.runs.items()
                for run in runs[known.get(id_, 0) :]
            )
        )
        return trio.current_time() - now

    async def keep_adding(self, client: Client) -> None:
        """Add jobs, some of them in named queues, never far ahead of the worker; until there are enough."""
        while not self._enough:
            if len(self.added) - self.returned >= _MOST_UNFINISHED:
                await self._progress.wait()
                continue
            try:
                await self.add(client)
            except DatabaseUnavailable:
                await trio.sleep(_ADDING_PAUSE)
            except DatabaseError as error:
                if not error.transient:
                    raise
                self.uncertain += len(self.kinds)
        self._adding_ended.set()

    async def add(self, client: Client, kinds: Sequence[Kind] | None = None) -> None:
        """Add some jobs: by default one of each kind."""
        jobs = await client.add_raw_jobs(self.kinds if kinds is None else kinds)
        self.added.update(job.id for job in jobs)

    async def finish(self, database: Database, patience: float = PATIENCE) -> None:
        """Add no more and wait until no job is left; those that wait for another attempt get it at once."""
        self._enough = True
        self._note()
        with trio.fail_after(patience):
            await self._adding_ended.wait()
        await drain(database, patience)

    def check(self) -> int:
        """Every job was completed, and its attempts tell the truth; return how many runs were repetitions."""
        assert not self.violations, self.violations
        assert not self.added - self.runs.keys(), "jobs were lost"
        assert len(self.runs.keys() - self.added) <= self.uncertain, "jobs came from nowhere"
        for id_, runs in self.runs.items():
            attempts = [run.job.attempts for run in runs]
            expected = 1
            for run in runs:
                assert run.job.attempts == expected, f"job {id_} had attempts {attempts}"
                expected += run.ending is Ending.RAISED
            assert runs[-1].ending is Ending.RETURNED, f"job {id_} was not completed"
        return sum(len([r for r in runs if r.ending is Ending.RETURNED]) - 1 for runs in self.runs.values())


async def drain(database: Database, patience: float = PATIENCE) -> None:
    """Wait until no job is left; those that wait for another attempt get it at once."""
    with trio.move_on_after(patience):
        while await database.fetch_value("select count(*) from graphile_worker._private_jobs"):
            await database.execute("""
                update graphile_worker._private_jobs
                set run_at = now()
                where run_at > now() and locked_at is null
            """)
        return
    locked = await database.fetch("""
        select id, attempts, (now() - locked_at)::text as locked_for
        from graphile_worker._private_jobs
        where locked_at is not null
    """)
    raise AssertionError(f"there are jobs left; locked are {[dict(row) for row in locked]}")


async def check_nothing_locked(database: Database) -> None:
    """No job and no queue is locked by anybody."""
    assert not await locks(database)
