"""The API as a user types it. Nothing here runs: mypy and pyright read it.

A line that must be an error carries the ignore comments of both; where the error goes missing, the comment is
unused, and that is an error too.
"""

from __future__ import annotations

from typing import assert_type

import attrs
import trio

import trio_graphile
from trio_graphile import (
    ActiveWorker,
    Cleanup,
    Client,
    Job,
    JobClient,
    JobContext,
    JobKeyMode,
    JobSpec,
    RecoveryOptions,
    ShutdownOptions,
    SweepReport,
    Task,
    TaskRegistry,
    Worker,
    WorkerOptions,
    stop_on_signals,
)

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"


@attrs.frozen(kw_only=True)
class Resize:
    path: str


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome, context: JobContext) -> None:
    assert_type(context.job, Job)
    await trio.lowlevel.checkpoint()


@tasks.task("forget")
async def forget(payload: int) -> None: ...


@tasks.task("resize")
async def resize(payload: Resize) -> None: ...


@tasks.task("index")
async def index(payload: list[int]) -> None: ...


@tasks.task("tick")
async def tick() -> None: ...


@tasks.task("tock")
async def tock(context: JobContext) -> None: ...


assert_type(send_welcome, Task[Welcome])
assert_type(forget, Task[int])
assert_type(resize, Task[Resize])
assert_type(tick, Task[None])
assert_type(tock, Task[None])


@tasks.task("three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def three(payload: int, context: JobContext, more: str) -> None: ...


async def add(database: trio_graphile.Database) -> None:
    client = Client(database, tasks)

    assert_type(await client.add_job(send_welcome, Welcome(to="ada@example.org")), Job)
    await client.add_job(
        send_welcome,
        Welcome(to="ada@example.org"),
        JobSpec(job_key="welcome:ada", job_key_mode=JobKeyMode.PRESERVE_RUN_AT, priority=0, flags=["smtp"]),
    )
    await client.add_job(forget, 1)

    # The payload of another task.
    await client.add_job(send_welcome, Resize(path="a.png"))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.add_job(forget, "1")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    # An identifier is not a task; that is what add_raw_job is for.
    await client.add_job("send_welcome", Welcome(to="ada@example.org"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.add_raw_job("resize_in_node", {"path": "a.png"})
    await client.add_raw_job("resize_in_node", {"path": "a.png"}, JobSpec(queue_name="images"))


async def add_many(client: Client) -> None:
    added = await client.add_jobs([(send_welcome, Welcome(to=to)) for to in ("ada", "grace")])
    for job in added:
        assert_type(job, Job)
    await client.add_jobs([(send_welcome, Welcome(to="ada"), JobSpec(priority=1))])
    await client.add_raw_jobs([("a", 1), ("b", {"n": 2}, JobSpec(priority=1))])
    await client.add_batch_job(index, [1, 2])
    await client.add_batch_job(index, ["a"])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.add_batch_job(forget, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.add_jobs([(send_welcome, 5)])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def add_in_a_transaction(client: Client, database: trio_graphile.Database) -> None:
    async with database.transaction() as connection:
        assert_type(client.using(connection), JobClient)
        await client.using(connection).add_job(send_welcome, Welcome(to="ada@example.org"))
        # What takes a transaction of its own cannot be done in yours.
        await client.using(connection).migrate()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        await client.using(connection).cleanup()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def change(client: Client) -> None:
    changed = await client.reschedule_jobs([1, 2], priority=0)
    assert_type(changed.jobs, tuple[Job, ...])
    assert_type(changed.skipped_ids, tuple[int, ...])
    assert_type(await client.remove_job("welcome:ada"), Job | None)
    assert_type(await client.cleanup(Cleanup), dict[Cleanup, int])
    assert_type(await client.list_active_workers(), list[ActiveWorker])
    assert_type(await client.sweep_stale_workers(60, dry_run=True), SweepReport)


async def serve(url: str) -> None:
    async with trio_graphile.open_database(url) as database:
        assert_type(database, trio_graphile.Database)
        options = WorkerOptions(concurrency=20, shutdown=ShutdownOptions(grace_period=5))
        worker = Worker(database, tasks, options)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(stop_on_signals, worker)
            worker.stop()
        report = await worker.run_once()
        assert_type(report.completed, int)


WorkerOptions(concurrency="20")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(recovery=RecoveryOptions(sweep_threshold=120, resilient_flags=["patient"]))
WorkerOptions(recovery=None)
WorkerOptions(recovery=False)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(20)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JobSpec(jobkey="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JobSpec(job_key_mode="replace")
