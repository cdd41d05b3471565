"""Handlers of every temper and in every lane, and the journal that they keep."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import attrs
import trio

from trio_graphile import DatabaseError, Job, JobContext, Snooze, TaskRegistry
from trio_graphile._model.failures import describe_error
from trio_graphile._worker.bell import Bell

REASON = "not wanted any more"
"""Why a job is cancelled on request."""
PROCESS_TASKS = TaskRegistry()


@PROCESS_TASKS.task("computing", lane="process")
def computing() -> int:
    return sum(range(1000))


@attrs.define
class Journal:
    """What the handlers themselves know of a run."""

    running: set[int] = attrs.field(factory=set)
    finished: set[int] = attrs.field(factory=set)
    raised: dict[int, str] = attrs.field(factory=dict)
    snoozed: set[int] = attrs.field(factory=set)
    interrupted: set[int] = attrs.field(factory=set)
    cancel_requested: set[int] = attrs.field(factory=set)
    queues: dict[str, int] = attrs.field(factory=dict)
    violations: list[str] = attrs.field(factory=list)
    progress: Bell = attrs.field(factory=Bell)

    @contextlib.contextmanager
    def handling(self, job: Job) -> Iterator[None]:
        self.start(job)
        try:
            yield
        except BaseException as error:
            self.end(job, error)
            raise
        self.end(job, None)

    def start(self, job: Job) -> None:
        if job.id in self.running:
            self.violations.append(f"job {job.id} runs twice at once")
        if job.queue_name is not None and self.queues.get(job.queue_name):
            self.violations.append(f"queue {job.queue_name!r} overlaps")
        self.running.add(job.id)
        if job.queue_name is not None:
            self.queues[job.queue_name] = job.id
        self._note()

    def end(self, job: Job, error: BaseException | None) -> None:
        match error:
            case None:
                self.finished.add(job.id)
            case Snooze():
                self.snoozed.add(job.id)
            case RuntimeError() | DatabaseError():
                self.raised[job.id] = describe_error(error)
            case _:
                self.interrupted.add(job.id)
        self.running.discard(job.id)
        self.free_queue(job)
        self._note()

    def free_queue(self, job: Job) -> None:
        if job.queue_name is not None and self.queues.get(job.queue_name) == job.id:
            self.queues[job.queue_name] = 0

    @contextlib.contextmanager
    def handling_in_thread(self, job: Job) -> Iterator[None]:
        """As `handling`; the journal is kept in the thread of Trio."""
        trio.from_thread.run_sync(self.start, job)
        try:
            yield
        except BaseException as error:
            trio.from_thread.run_sync(self.end, job, error)
            raise
        trio.from_thread.run_sync(self.end, job, None)

    def _note(self) -> None:
        self.progress.ring()

    async def wait_until(self, enough: Callable[[], bool]) -> None:
        while not enough():
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
    _add_tempers(tasks, journal)
    _add_lanes(tasks, journal)
    tasks.include(PROCESS_TASKS)
    return tasks


def _add_tempers(tasks: TaskRegistry, journal: Journal) -> None:
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

    @tasks.task("snoozing")
    async def snoozing(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.lowlevel.checkpoint()
            raise Snooze(600)


def _add_lanes(tasks: TaskRegistry, journal: Journal) -> None:
    @tasks.task("threaded")
    def threaded(context: JobContext) -> None:
        with journal.handling_in_thread(context.job):
            context.run(trio.lowlevel.checkpoint)

    @tasks.task("attentive")
    def attentive(context: JobContext) -> None:
        """It goes on until it is told to stop."""
        with journal.handling_in_thread(context.job):
            while True:
                threading.Event().wait(0.001)
                trio.from_thread.check_cancelled()

    @tasks.task("calling")
    def calling(context: JobContext) -> None:
        with journal.handling_in_thread(context.job):
            context.run(trio.sleep_forever)

    @tasks.batch_task("batch")
    async def batch(items: list[int], context: JobContext) -> list[BaseException | None]:
        journal.start(context.job)
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            journal.end(context.job, error)
            raise
        journal.end(context.job, RuntimeError())
        journal.raised[context.job.id] = "1 of 2 items failed: 1: RuntimeError: as it should"
        return [None, RuntimeError("as it should")]

    @tasks.task("settling")
    async def settling(context: JobContext) -> None:
        """What it writes is there if and only if its job is not."""
        journal.start(context.job)
        try:
            async with context.complete_in_transaction() as connection:
                await connection.execute(
                    "insert into public.effects (job_id) values ($1::bigint)", context.job.id
                )
                journal.free_queue(context.job)  # the commit lets the next job begin, before we hear of it
        except BaseException as error:
            journal.end(context.job, error)
            raise
        journal.end(context.job, None)  # what follows is no longer the job's run
        await trio.lowlevel.checkpoint()
