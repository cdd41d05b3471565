"""`run_asyncio`: a handler's asyncio code, in the loop that is open beside Trio."""

from __future__ import annotations

import asyncio  # noqa: TID251  # handlers may have code for it
import contextlib
import gc
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sniffio
import trio
import trio_asyncio  # type: ignore[import-untyped]

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.waiting import wait_until
from tests.support.workers import SOON, make_worker, running
from trio_graphile import Client, Database, JobContext, Worker, current_job, open_database


async def test_asyncio_code_runs_in_an_asyncio_loop_and_returns_to_the_handler(
    database: Database, client: Client, handlers: Handlers
) -> None:
    found: list[Any] = []

    async def double(number: int) -> int:
        await asyncio.sleep(0.001)
        found.extend(
            [asyncio.get_running_loop().is_running(), sniffio.current_async_library(), current_job()]
        )
        return 2 * number

    @handlers.tasks.task("bilingual")
    async def bilingual(context: JobContext) -> None:
        found.append(await context.run_asyncio(double, 21))
        found.append(sniffio.current_async_library())

    job = await client.add_raw_job("bilingual")
    assert (await make_worker(database, handlers.tasks).run_once()).completed == 1
    turns, library, known, doubled, library_afterwards = found
    assert (turns, library, known.id, doubled, library_afterwards) == (True, "asyncio", job.id, 42, "trio")


async def test_what_asyncio_code_raises_is_the_handlers_failure(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    async def fail() -> None:
        raise LookupError("over there")

    @handlers.tasks.task("bilingual")
    async def bilingual(context: JobContext) -> None:
        await context.run_asyncio(fail)

    await client.add_raw_job("bilingual")
    assert (await make_worker(database, handlers.tasks).run_once()).failed == 1
    [job] = await table.jobs()
    assert re.match(
        r"LookupError: over there \(tests\.worker\.test_asyncio:\d+ in fail\)", str(job["last_error"])
    )


@pytest.mark.parametrize("end", [Worker.stop, Worker.cancel])
async def test_asyncio_code_is_cancelled_with_its_handler_and_waited_for(
    client: Client, handlers: Handlers, end: Callable[[Worker], None]
) -> None:
    begun = trio.Event()
    asyncio_tasks: list[asyncio.Task[Any] | None] = []
    cleaned_up: list[bool] = []

    async def endless() -> None:
        asyncio_tasks.append(asyncio.current_task())
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)  # noqa: ASYNC102  # asyncio has no such scopes
            cleaned_up.append(True)
            raise

    @handlers.tasks.task("bilingual")
    async def bilingual(context: JobContext) -> None:
        await context.run_asyncio(endless)

    await client.add_raw_job("bilingual")
    async with running(make_worker(client.database, handlers.tasks, shutdown=SOON)) as run:
        with trio.fail_after(20):
            await begun.wait()
        end(run.worker)
        report = await run.wait()
    assert (report.completed, report.returned, report.failed) == (0, 1, 0)
    assert cleaned_up == [True]
    assert [task is not None and task.cancelled() for task in asyncio_tasks] == [True]


async def test_asyncio_code_that_ends_well_although_cancelled_has_ended_well(
    database: Database, client: Client, handlers: Handlers
) -> None:
    begun = trio.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # noqa: ASYNC103  # it is what asyncio code may do
            return  # noqa: ASYNC104  # as above

    @handlers.tasks.task("bilingual")
    async def bilingual(context: JobContext) -> None:
        await context.run_asyncio(stubborn)

    await client.add_raw_job("bilingual")
    async with running(make_worker(database, handlers.tasks)) as run:
        with trio.fail_after(20):
            await begun.wait()
        run.worker.cancel()
        report = await run.wait()
    assert (report.completed, report.returned) == (1, 0)


# --- what libraries leave behind ----------------------------------------------------------------


async def fail_in_a_task() -> None:
    async def background() -> None:
        raise OSError("the peer hung up")

    _ = asyncio.create_task(background())  # noqa: RUF006  # nobody keeps it, nobody awaits it
    await asyncio.sleep(0.001)


async def fail_in_a_callback() -> None:
    def called() -> None:
        raise ValueError("a bug of a library")

    asyncio.get_running_loop().call_soon(called)


async def leave_a_task_pending() -> None:
    _ = asyncio.create_task(asyncio.sleep(3600))  # noqa: RUF006  # nobody keeps it, nobody awaits it
    await asyncio.sleep(0.001)


async def exit_in_a_task() -> None:
    async def background() -> None:
        raise SystemExit(3)

    _ = asyncio.create_task(background())  # noqa: RUF006  # nobody keeps it, nobody awaits it
    await asyncio.sleep(0.001)


async def exit_in_a_callback() -> None:
    asyncio.get_running_loop().call_later(0.001, sys.exit, 3)


LITTER = (fail_in_a_task, fail_in_a_callback, leave_a_task_pending, exit_in_a_task, exit_in_a_callback)


@pytest.mark.parametrize("litter", LITTER)
async def test_what_asyncio_code_leaves_behind_ends_nobody_else(
    litter: Callable[[], Awaitable[None]],
    database: Database,
    client: Client,
    handlers: Handlers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio would log it. It is the loop of all handlers, and not that of the worker's sessions."""

    @handlers.tasks.task("littering")
    async def littering(context: JobContext) -> None:
        await context.run_asyncio(litter)
        await context.run_asyncio(asyncio.sleep, 0.01)
        gc.collect()

    await client.add_raw_jobs([("held", None), ("littering", None)])
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        await wait_until(lambda: run.worker.statistics().completed == 1)
        await client.add_raw_jobs([("littering", None), ("quick", None)])
        await wait_until(lambda: run.worker.statistics().completed == 3)
        handlers.release.set()
        await handlers.wait_ended(2)
        run.worker.stop()
        report = await run.wait()
    assert (report.completed, report.failed, report.returned) == (4, 0, 0)
    if litter is not leave_a_task_pending:
        assert "asyncio" in {record.name for record in caplog.records}


async def test_an_exit_in_asyncio_code_is_raised_to_whoever_called_it(database: Database) -> None:
    async def leave() -> None:
        sys.exit(3)

    with pytest.raises(SystemExit) as caught:
        await database.run_asyncio(leave)
    assert caught.value.code == 3
    assert await database.run_asyncio(asyncio.sleep, 0, "goes on") == "goes on"


async def test_a_server_in_asyncio_code_gets_every_connection(database: Database) -> None:
    """`sock_accept` counts on being called once for each time it asks."""

    async def serve() -> int:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
            listener.settimeout(0)
            for _ in range(40):
                client = stack.enter_context(socket.socket())
                client.settimeout(0)
                client.connect_ex(listener.getsockname())
            async with asyncio.timeout(20):
                for _ in range(40):
                    connection, _ = await loop.sock_accept(listener)
                    stack.enter_context(connection)
        return 40

    assert await database.run_asyncio(serve) == 40


async def test_a_loop_that_a_user_has_opened_serves_asyncio_code(database_url: str) -> None:
    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async with trio_asyncio.open_loop() as loop, open_database(database_url) as database:
        assert await database.run_asyncio(which) is loop
        assert trio_asyncio.current_loop.get() is loop


async def test_a_thread_may_run_a_trio_and_a_database_of_its_own(
    database: Database, database_url: str, client: Client, handlers: Handlers
) -> None:
    """It inherits the context of its handler, and with it the name of a loop that is not its own."""

    async def ask() -> int:
        async with open_database(database_url) as own:
            await own.run_asyncio(asyncio.sleep, 0)
            return int(await own.fetch_value("select 42"))

    found: list[int] = []

    @handlers.tasks.task("nested")
    def nested() -> None:
        found.append(trio.run(ask))

    await client.add_raw_job("nested")
    assert (await make_worker(database, handlers.tasks).run_once()).completed == 1
    assert found == [42]
    assert await trio.to_thread.run_sync(trio.run, ask) == 42
