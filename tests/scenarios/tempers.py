"""Handlers of every temper and in every lane that keep their word."""

from __future__ import annotations

import threading

import trio

from tests.scenarios.bad_tempers import BAD_PROCESS_TASKS, add_bad_tempers
from tests.scenarios.journal import Journal
from tests.support.tempers import FailingRegistry, add_tempers, add_threaded
from trio_graphile import JobContext, Snooze, TaskRegistry

PROCESS_TASKS = TaskRegistry()


@PROCESS_TASKS.task("computing", lane="process")
def computing() -> int:
    return sum(range(1000))


def make_tasks(journal: Journal) -> FailingRegistry:
    """Return handlers of every temper."""
    tasks = FailingRegistry()
    add_tempers(tasks, journal.handling)
    add_threaded(tasks, journal.handling_in_thread)
    _add_tempers(tasks, journal)
    _add_lanes(tasks, journal)
    tasks.include(PROCESS_TASKS)
    add_bad_tempers(tasks, journal)
    tasks.include(BAD_PROCESS_TASKS)
    return tasks


def _add_tempers(tasks: TaskRegistry, journal: Journal) -> None:
    @tasks.task("brief")
    async def brief(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    @tasks.task("barrier")
    async def barrier(context: JobContext) -> None:
        """It ends when each slot runs one of them: none has died."""
        with journal.handling(context.job):
            await journal.meet()

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
