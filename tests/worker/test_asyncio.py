"""`run_asyncio`: a handler's asyncio code, in the loop that is open beside Trio."""

from __future__ import annotations

import asyncio  # noqa: TID251  # handlers may have code for it
import re
from collections.abc import Callable
from typing import Any

import pytest
import sniffio
import trio

from tests.worker.conftest import Handlers, Table
from tests.worker.runs import SOON, make_worker, running
from trio_graphile import Client, Database, JobContext, Worker, current_job


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
