"""What users' functions raise that is no `Exception`: a failure of theirs, and no end of the worker."""

from __future__ import annotations

import asyncio  # noqa: TID251  # whose cancellation is one of the errors
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import pytest
import trio

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.workers import make_worker, running
from tests.worker.process_tasks import Unforeseen
from tests.worker.process_tasks import tasks as process_tasks
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    Snooze,
    Worker,
    WorkerCrashed,
)
from trio_graphile.hooks import Hooks, JobCompleted

ERRORS: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    GeneratorExit,
    asyncio.CancelledError,
    lambda: Unforeseen("a library's"),
    lambda: BaseExceptionGroup("several", [SystemExit(3), ValueError("beside it")]),
]
NAMES = ["SystemExit", "GeneratorExit", "CancelledError", "Unforeseen", "group"]
every_error = pytest.mark.parametrize("make_error", ERRORS, ids=NAMES)


async def stray_cancellation() -> trio.Cancelled:
    """Return the cancellation of a scope that is left, as one hears of it who waits for another's result."""
    with trio.move_on_after(0):
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            found = cancelled
            raise
        raise AssertionError("it was not cancelled")
    return found  # type: ignore[possibly-undefined]  # mypy does not know where the scope is left


async def run_both(client: Client, handlers: Handlers) -> dict[str, object]:
    """Run `strange` beside a job that is to go on undisturbed; return the row of the first."""
    table = Table(client.database)
    await client.add_raw_job("held")
    strange = await client.add_raw_job("strange", None, JobSpec(max_attempts=2))
    async with running(make_worker(client.database, handlers.tasks)):
        await handlers.wait_started(1)
        await table.wait_until(
            "select last_error is not null from graphile_worker._private_jobs where id = $1::bigint",
            strange.id,
        )
        assert handlers.cancelled == []
        [row] = [row for row in await table.jobs() if row["id"] == strange.id]
        handlers.release.set()
        await handlers.wait_ended(1)
    return row


@every_error
@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_a_handler_that_raises_no_exception_has_failed_all_the_same(
    client: Client,
    handlers: Handlers,
    lane: str,
    make_error: Callable[[], BaseException],
) -> None:
    if lane == "async":

        @handlers.tasks.task("strange")
        async def strange() -> None:
            raise make_error()

    else:

        @handlers.tasks.task("strange")
        def strange_in_a_thread() -> None:
            raise make_error()

    row = await run_both(client, handlers)
    name = type(make_error()).__name__.replace("BaseExceptionGroup", "SystemExit")
    assert str(row["last_error"]).startswith(name)
    assert (row["attempts"], row["locked_by"]) == (1, None)


@pytest.mark.parametrize("kind", [*NAMES[:4], "KeyboardInterrupt"])
async def test_a_process_that_raises_no_exception_has_failed_all_the_same(
    database: Database, client: Client, table: Table, kind: str
) -> None:
    await client.add_raw_job("strange", kind)
    assert (await make_worker(database, process_tasks).run_once()).failed == 1
    [row] = await table.jobs()
    assert str(row["last_error"]).startswith(kind)
    assert (row["attempts"], row["locked_by"]) == (1, None)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=NAMES[:3:2])
async def test_asyncio_code_of_a_handler_that_exits_ends_neither_the_loop_nor_the_worker(
    client: Client, handlers: Handlers, error: BaseException
) -> None:
    async def over_there() -> None:
        raise error

    @handlers.tasks.task("strange")
    async def strange(context: JobContext) -> None:
        await context.run_asyncio(over_there)

    row = await run_both(client, handlers)
    assert str(row["last_error"]).startswith(type(error).__name__)
    assert row["attempts"] == 1


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_a_cancellation_that_comes_from_elsewhere_is_a_failure(
    client: Client, handlers: Handlers, lane: str
) -> None:
    cancelled = await stray_cancellation()
    if lane == "async":

        @handlers.tasks.task("strange")
        async def strange() -> None:
            raise cancelled

    else:

        @handlers.tasks.task("strange")
        def strange_in_a_thread() -> None:
            raise cancelled

    row = await run_both(client, handlers)
    assert str(row["last_error"]).startswith("Cancelled")
    assert row["attempts"] == 1


async def test_a_failure_in_a_group_with_the_cancellation_of_a_thread_counts(
    client: Client, handlers: Handlers
) -> None:
    @handlers.tasks.task("strange", timeout=0.05)
    def strange(context: JobContext) -> None:
        try:
            context.run(trio.sleep_forever)
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("both", [cancelled, ValueError("no such luck")]) from None  # noqa: ASYNC104  # it has it

    row = await run_both(client, handlers)
    assert str(row["last_error"]).startswith("ValueError: no such luck")
    assert row["attempts"] == 1


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_ctrl_c_in_a_handler_ends_the_worker_and_spends_no_attempt(
    database: Database, client: Client, handlers: Handlers, table: Table, lane: str
) -> None:
    if lane == "async":

        @handlers.tasks.task("interrupted")
        async def interrupted() -> None:
            raise KeyboardInterrupt

    else:

        @handlers.tasks.task("interrupted")
        def interrupted_in_a_thread() -> None:
            raise KeyboardInterrupt

    await client.add_raw_job("interrupted")
    with pytest.raises(KeyboardInterrupt):
        await make_worker(database, handlers.tasks).run_once()
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"]) == (0, None)


async def test_ctrl_c_beside_a_failure_ends_the_worker_and_the_failure_is_recorded(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("interrupted")
    async def interrupted() -> None:
        raise BaseExceptionGroup("both", [KeyboardInterrupt(), SystemExit(3)])

    await client.add_raw_job("interrupted")
    with pytest.raises(KeyboardInterrupt):
        await make_worker(database, handlers.tasks).run_once()
    [row] = await table.jobs()
    assert str(row["last_error"]).startswith("SystemExit: 3")
    assert (row["attempts"], row["locked_by"]) == (1, None)


# --- what else users provide ----------------------------------------------------------------------


def exit_at(place: str) -> Hooks:
    """Return hooks of which one raises `SystemExit`."""
    hooks = Hooks()

    def ask(_: object) -> None:
        raise SystemExit(3)

    async def ask_later(_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise SystemExit(3)

    @contextmanager
    def before(_: object):  # type: ignore[no-untyped-def]  # its type is of no interest
        raise SystemExit(3)
        yield

    @contextmanager
    def after(_: object):  # type: ignore[no-untyped-def]  # as above
        yield
        raise SystemExit(3)

    register: dict[str, Callable[[], object]] = {
        "before": lambda: hooks.before_job_run(ask),
        "before, async": lambda: hooks.before_job_run(ask_later),
        "after": lambda: hooks.after_job_run(ask),
        "around, before": lambda: hooks.around_job_run(before),
        "around, after": lambda: hooks.around_job_run(after),
        "observer": lambda: hooks.on(JobCompleted, ask),
    }
    register[place]()
    return hooks


@pytest.mark.parametrize("place", ["before", "before, async", "after"])
async def test_an_interceptor_that_exits_has_its_job_fail(
    database: Database, client: Client, handlers: Handlers, table: Table, place: str
) -> None:
    await client.add_raw_job("quick")
    report = await Worker(database, handlers.tasks, plugins=[exit_at(place)]).run_once()
    assert (report.completed, report.failed) == (0, 1)
    [row] = await table.jobs()
    assert str(row["last_error"]).startswith("SystemExit: 3")


@pytest.mark.parametrize("place", ["around, before", "around, after", "observer"])
async def test_who_only_watches_and_exits_concerns_nobody(
    database: Database, client: Client, handlers: Handlers, place: str
) -> None:
    await client.add_raw_job("quick")
    report = await Worker(database, handlers.tasks, plugins=[exit_at(place)]).run_once()
    assert (report.completed, report.failed) == (1, 0)


async def test_a_retry_policy_that_exits_leaves_the_delay_to_the_database(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    def leave(_: int) -> float:
        raise SystemExit(3)

    @handlers.tasks.task("strange", retry=leave)
    async def strange() -> None:
        raise ValueError("no such luck")

    await client.add_raw_job("strange")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"]) == (1, None)


async def test_an_exception_that_cannot_be_described_or_obeyed_is_a_failure(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    class Nameless(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    class Endless(Snooze):
        def __init__(self) -> None:
            super().__init__(1)
            self.seconds = float("nan")

    @handlers.tasks.task("nameless")
    async def nameless() -> None:
        raise Nameless

    @handlers.tasks.task("endless")
    async def endless() -> None:
        raise Endless

    await client.add_raw_jobs([("nameless", None), ("endless", None)])
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 2
    nameless_, endless_ = [str(row["last_error"]) for row in await table.jobs()]
    assert "Nameless: (its text could not be made)" in nameless_
    assert "Endless: for nan s" in endless_


@every_error
async def test_forbidden_flags_that_raise_no_exception_are_a_crash(
    client: Client, handlers: Handlers, table: Table, make_error: Callable[[], BaseException]
) -> None:
    def flags() -> Sequence[str]:
        raise make_error()

    await client.add_raw_job("quick")
    with pytest.raises(WorkerCrashed, match="forbidden_flags: the function raised"):
        await make_worker(client.database, handlers.tasks, forbidden_flags=flags).run_once()
    [row] = await table.jobs()
    assert (row["attempts"], row["locked_by"]) == (0, None)
