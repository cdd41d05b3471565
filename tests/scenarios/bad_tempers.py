"""Handlers that misbehave: they raise what nobody should, and leave behind what nobody wants."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what asyncio code leaves behind is the subject
import contextlib
import os
from collections.abc import Callable

import trio

from tests.scenarios.journal import Journal
from trio_graphile import ConnectionLost, DatabaseError, Job, JobContext, TaskRegistry

BAD_PROCESS_TASKS = TaskRegistry()
DOOMED = {"quitting": "SystemExit", "departing": "LibraryExit", "vanishing": "exit code 7"}
"""What becomes of jobs in processes that keep no journal: a part of their errors."""


class LibraryExit(BaseException):
    """What a library uses to unwind the stack, past everybody's `except Exception`."""


@BAD_PROCESS_TASKS.task("quitting", lane="process")
def quitting() -> None:
    raise SystemExit(3)


@BAD_PROCESS_TASKS.task("departing", lane="process")
def departing() -> None:
    raise LibraryExit("unwound")


@BAD_PROCESS_TASKS.task("vanishing", lane="process")
def vanishing() -> None:
    os._exit(7)


EXITS: dict[str, Callable[[], BaseException]] = {
    "system_exit": lambda: SystemExit(3),
    "generator_exit": lambda: GeneratorExit("closed"),
    "asyncio_cancelled": lambda: asyncio.CancelledError("a pool closes"),
    "library_exit": lambda: LibraryExit("unwound"),
    "mixture": lambda: BaseExceptionGroup("mixture", [RuntimeError("one"), SystemExit(1)]),
    "nested": lambda: BaseExceptionGroup(
        "outer", [BaseExceptionGroup("inner", [LibraryExit("two"), asyncio.CancelledError()])]
    ),
}


def add_bad_tempers(tasks: TaskRegistry, journal: Journal) -> None:
    for name, make_error in EXITS.items():
        _add_exit(tasks, journal, name, make_error)
    _add_asyncio(tasks, journal)
    _add_borrowers(tasks, journal)
    _add_stubborn(tasks, journal)


def _add_exit(
    tasks: TaskRegistry, journal: Journal, name: str, make_error: Callable[[], BaseException]
) -> None:
    @tasks.task(name)
    async def exit_(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.lowlevel.checkpoint()
            raise make_error()

    @tasks.task(f"{name}_in_thread")
    def exit_in_thread(context: JobContext) -> None:
        with journal.handling_in_thread(context.job):
            raise make_error()

    @tasks.task(f"{name}_beside_others")
    async def exit_beside_others(context: JobContext) -> None:
        """Cancelled at the same time, it leaves a group of the one and the other."""
        with journal.handling(context.job):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_raise_when_cancelled, make_error)
                await trio.lowlevel.checkpoint()
                raise make_error()


async def _raise_when_cancelled(make_error: Callable[[], BaseException]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise make_error()


def _add_asyncio(tasks: TaskRegistry, journal: Journal) -> None:
    @tasks.task("strays")
    async def strays(context: JobContext) -> None:
        with journal.handling(context.job):
            await context.run_asyncio(leave_strays)

    @tasks.task("late_strays")
    async def late_strays(context: JobContext) -> None:
        with journal.handling(context.job):
            await context.run_asyncio(leave_late_strays)

    @tasks.task("pool_closes")
    async def pool_closes(context: JobContext) -> None:
        """What it waits for in asyncio is cancelled, by nobody of ours."""
        with journal.handling(context.job):
            await context.run_asyncio(_wait_for_what_is_cancelled)


def _fail() -> None:
    raise RuntimeError("nobody asked")


async def _fail_soon(delay: float) -> None:
    await asyncio.sleep(delay)
    _fail()


async def leave_strays() -> None:
    """Leave behind a task, a callback, a future and a server's worth of failures that nobody waits for."""
    loop = asyncio.get_running_loop()
    loop.call_soon(_fail)
    loop.create_future().set_exception(RuntimeError("nobody asked"))
    task = loop.create_task(_fail_soon(0))
    await asyncio.sleep(0)
    del task


async def leave_late_strays() -> None:
    """As `leave_strays`; they fail when the handler has returned."""
    loop = asyncio.get_running_loop()
    loop.call_later(0.002, _fail)
    task = loop.create_task(_fail_soon(0.001))
    task.add_done_callback(lambda _: _fail())


async def _wait_for_what_is_cancelled() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.cancel)
    await future


def _add_borrowers(tasks: TaskRegistry, journal: Journal) -> None:
    @tasks.task("holding")
    async def holding(context: JobContext) -> None:
        """It never gives its session back."""
        with journal.handling(context.job):
            async with context.database.transaction() as connection:
                await connection.execute("select 1")
                await trio.sleep_forever()

    @tasks.task("hasty")
    async def hasty(context: JobContext) -> None:
        """It asks with little patience and without a session: one is opened, and given up in the middle."""
        with journal.handling(context.job):
            for number in range(6):
                with contextlib.suppress(DatabaseError), trio.move_on_after(_haste(number, context.job)):
                    await context.database.fetch_value("select pg_terminate_backend(pg_backend_pid())")

    @tasks.task("beginning")
    async def beginning(context: JobContext) -> None:
        """It leaves a transaction open on the session that it was lent for a statement."""
        with journal.handling(context.job):
            await context.database.execute("begin")

    @tasks.task("adding")
    async def adding(context: JobContext) -> None:
        with journal.handling(context.job):
            try:
                job = await context.client.add_raw_job("brief")
            except ConnectionLost:
                journal.maybe_added += 1
                raise
            journal.added.add(job.id)


def _haste(number: int, job: Job) -> float:
    """Return how many seconds somebody waits for a session: each time a little longer."""
    return 0.0004 * (2 * number + job.id % 2)


def _add_stubborn(tasks: TaskRegistry, journal: Journal) -> None:
    @tasks.task("stubborn")
    async def stubborn(context: JobContext) -> None:
        """It hears that it is cancelled, and goes on; in the end it returns as if nothing had been."""
        with journal.handling(context.job):
            for _ in range(3):
                with contextlib.suppress(trio.Cancelled):
                    await trio.sleep_forever()

    @tasks.task("thorough")
    async def thorough(context: JobContext) -> None:
        """It cleans up behind a shield, for a while."""
        with journal.handling(context.job):
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(0.03, shield=True):
                    await trio.sleep_forever()
