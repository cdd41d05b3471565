"""A worker of Rust beside ours and Node's. It brings revisions and functions of its own when it starts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import permutations

import pytest
import trio

from tests.interop.graphile_worker import GraphileWorker
from tests.interop.installed import RUSTS_REVISION, lacks_nothing_of_ours, ledger
from tests.interop.runs import Runs, recorded_runs, tasks
from tests.interop.rust_worker import RustWorker
from trio_graphile import (
    Cleanup,
    Client,
    Database,
    JobContext,
    JobSpec,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile._database import worker_registry
from trio_graphile._database.claiming import claims

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(900),  # for the build, which the first one waits for
]

LONG = {"queue_name": "q", "seconds": 600.0}
BRIEF = {"queue_name": None, "seconds": 0.0}
JOBS = [["record", BRIEF, None]]


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as database:
        yield database


@pytest.fixture
async def migrated(rust: RustWorker, database: Database, database_url: str) -> Database:
    """Lend a database in which Rust came after us."""
    await rust.run(database_url, "migrate")
    return database


@pytest.fixture
async def runs(migrated: Database) -> AsyncIterator[Runs]:
    async with recorded_runs(migrated) as runs:
        yield runs


async def job_row(database: Database, job_id: int) -> tuple[int, str | None, bool]:
    """Return the attempts of a job, who has it, and whether it can be taken."""
    row = await database.fetch_row(
        "select attempts, locked_by, is_available from graphile_worker._private_jobs where id = $1::bigint",
        job_id,
    )
    assert row is not None
    return tuple(row.values())


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes: what befalls rows is announced to nobody."""
    with trio.fail_after(60):
        while not await question():  # noqa: ASYNC110
            await trio.lowlevel.checkpoint()


# --- installing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [*permutations(("ours", "node", "rust"))], ids=" ".join)
async def test_whoever_installs_first_each_runs_the_jobs_of_all(
    node: GraphileWorker, rust: RustWorker, empty: Database, empty_database_url: str, order: tuple[str, ...]
) -> None:
    url, client = empty_database_url, Client(empty)
    install: dict[str, Callable[[], Awaitable[object]]] = {
        "ours": client.migrate,
        "node": lambda: node.run(url, "migrate.mjs"),
        "rust": lambda: rust.run(url, "migrate"),
    }
    for name in order:
        await install[name]()
    assert max(await ledger(empty)) == RUSTS_REVISION
    assert await lacks_nothing_of_ours(empty)

    run: dict[str, Callable[[], Awaitable[object]]] = {
        "python": Worker(empty, tasks).run_once,
        "node": lambda: node.run(url, "once.mjs", {}),
        "rust": lambda: rust.run(url, "once"),
    }
    async with recorded_runs(empty) as runs:
        for name, run_once in run.items():
            ids = {(await client.add_raw_job("record", BRIEF)).id}
            for add in (node.run(url, "add.mjs", JOBS), rust.run(url, "add", JOBS)):
                ids.update(json.loads((await add).stdout))
            await run_once()
            sides = await runs.sides()
            assert {job_id: sides.get(job_id) for job_id in ids} == {job_id: [name] for job_id in ids}
    assert await empty.fetch_value("select count(*) from graphile_worker.jobs") == 0


async def test_what_is_ours_works_where_rust_came_first(
    rust: RustWorker, empty: Database, empty_database_url: str
) -> None:
    registry, running = TaskRegistry(), trio.Event()

    @registry.task("transfer")
    async def transfer(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await connection.execute("insert into done select 1")

    @registry.task("wait")
    async def wait() -> None:
        running.set()
        await trio.sleep_forever()

    await rust.run(empty_database_url, "migrate")
    await empty.execute("create table done (n integer)")
    client, worker = Client(empty, registry), Worker(empty, registry)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            await client.add_job(transfer, None)
            job = await client.add_job(wait, None)
            await running.wait()
            assert (await client.cancel_jobs([job.id])).requested_ids == (job.id,)
            await until(lambda: is_done(empty))
            worker.stop()
    assert await lacks_nothing_of_ours(empty)
    assert await job_row(empty, job.id) == (25, None, False)


async def is_done(database: Database) -> bool:
    done: bool = await database.fetch_value("""
        select exists (select from done)
          and not exists (
            select
            from graphile_worker._private_jobs
            where is_available or locked_at is not null
          )
    """)
    return done


@pytest.mark.parametrize("first", ["ours", "rust"])
@pytest.mark.parametrize("found", ["nothing", "ours"])
async def test_two_installers_at_once_leave_nothing_out(
    rust: RustWorker, empty: Database, empty_database_url: str, first: str, found: str
) -> None:
    """Both want to write when both have seen what is there."""
    held = "create schema graphile_worker"
    if found == "ours":
        await Client(empty).migrate()
        await empty.execute("delete from graphile_worker.trio_graphile_migrations")
        held = "lock table graphile_worker.migrations in exclusive mode"
    installers: dict[str, Callable[[], Awaitable[object]]] = {
        "ours": Client(empty).migrate,
        "rust": lambda: rust.run(empty_database_url, "migrate"),
    }
    async with trio.open_nursery() as nursery, empty.connection() as connection:
        await connection.execute("begin")
        await connection.execute(held)
        for number, name in enumerate((first, *(installers.keys() - {first})), start=1):
            nursery.start_soon(installers[name])
            await until(lambda number=number: are_waiting(empty, number))  # type: ignore[misc]
        await connection.execute("rollback")
    assert max(await ledger(empty)) == RUSTS_REVISION
    assert await lacks_nothing_of_ours(empty)
    report = await Client(empty).migrate()
    assert (report.applied, report.warning) == ((), None)


async def are_waiting(database: Database, count: int) -> bool:
    """Whether so many sessions wait for a lock."""
    waiting: int = await database.fetch_value("""
        select count(*)
        from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
    """)
    return waiting >= count


# --- running together -----------------------------------------------------------------------------


async def test_a_queue_is_shared_with_rust(
    rust: RustWorker, migrated: Database, database_url: str, runs: Runs
) -> None:
    count, queues = 60, ("red", "green", None)
    jobs = [(queues[number % 3], {"seconds": 0.01}) for number in range(count)]
    async with rust.worker(database_url, concurrency=4, pollInterval=100), trio.open_nursery() as nursery:
        worker = Worker(migrated, tasks, WorkerOptions(concurrency=4, poll_interval=0.1))
        await nursery.start(worker.run)
        await Client(migrated).add_raw_jobs(
            ("record", {"queue_name": queue, **payload}, JobSpec(queue_name=queue)) for queue, payload in jobs
        )
        more = [["record", {"queue_name": queue, **payload}, {"queueName": queue}] for queue, payload in jobs]
        await rust.run(database_url, "add", more)
        with trio.fail_after(60):
            await runs.wait_finished(2 * count)
        worker.stop()
    sides = await runs.sides()
    assert {len(ran) for ran in sides.values()} == {1}
    assert {side for ran in sides.values() for side in ran} == {"rust", "python"}
    assert await runs.overlapping() == 0


# --- garbage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("payloads", [[1], [1, 2]], ids=["one", "many"])
async def test_rusts_collector_waits_for_our_adds(
    rust: RustWorker, migrated: Database, database_url: str, payloads: list[int]
) -> None:
    """It decides which tasks are idle when it has locked the table."""
    client = Client(migrated)
    await client.complete_jobs([(await client.add_raw_job("adding")).id])
    async with trio.open_nursery() as nursery, migrated.transaction() as connection:
        await client.using(connection).add_raw_jobs([("adding", payload) for payload in payloads])
        nursery.start_soon(rust.run, database_url, "cleanup")
        await until(lambda: are_waiting(migrated, 1))
    counts = (await client.backlog()).ready, len(await migrated.fetch("select from graphile_worker.jobs"))
    assert counts == (len(payloads), len(payloads))


@pytest.mark.parametrize("queue_name", [None, "q"])
async def test_our_collector_waits_for_adds_through_functions_of_rust(
    migrated: Database, queue_name: str | None
) -> None:
    client, spec = Client(migrated), JobSpec(queue_name=queue_name)
    await client.complete_jobs([(await client.add_raw_job("adding", None, spec)).id])
    async with migrated.transaction() as connection:
        await connection.execute(
            "select graphile_worker.add_job('adding', queue_name => $1::text)", queue_name
        )
        assert set((await client.cleanup(COLLECTED)).values()) == {0}
    [job] = await claims.get_jobs(migrated, "trio_graphile_me", ["adding"], 1)
    assert job.queue_name == queue_name


COLLECTED = (Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES)


# --- recovery -------------------------------------------------------------------------------------


async def swept(database: Database) -> bool:
    report = await Client(database).sweep_stale_workers(2.0, 0.0, foreign_threshold=2.0)
    return report.recovered_jobs == 1


async def test_we_recover_the_jobs_of_a_dead_worker_of_rust(
    rust: RustWorker, migrated: Database, database_url: str, runs: Runs
) -> None:
    job = await Client(migrated).add_raw_job("record", LONG, JobSpec(queue_name="q"))
    async with rust.worker(database_url, heartbeatInterval=200, sweepInterval=600_000) as process:
        with trio.fail_after(60):
            await runs.wait_started(1)
        assert not await swept(migrated)
        process.kill()
        await until(lambda: swept(migrated))
    assert await job_row(migrated, job.id) == (0, None, True)
    [again] = await claims.get_jobs(migrated, "trio_graphile_me", ["record"], 1)
    assert again.id == job.id


async def test_a_short_threshold_of_ours_leaves_live_workers_of_rust_alone(
    rust: RustWorker, migrated: Database, database_url: str, runs: Runs
) -> None:
    """Theirs sends its second heartbeat long after ours would take one of us for dead."""
    job = await Client(migrated).add_raw_job("record", LONG, JobSpec(queue_name="q"))
    async with rust.worker(database_url, heartbeatInterval=30_000) as process:
        with trio.fail_after(60):
            await runs.wait_started(1)
        await migrated.execute(
            "update graphile_worker._private_workers set last_heartbeat_at = now() - interval '29 seconds'"
        )
        report = await Client(migrated).sweep_stale_workers(0.2)
        assert report.worker_ids == ()
        attempts, locked_by, _ = await job_row(migrated, job.id)
        assert attempts == 1
        assert locked_by is not None
        process.kill()


async def test_rust_recovers_the_jobs_of_a_dead_worker_of_ours(
    rust: RustWorker, migrated: Database, database_url: str
) -> None:
    job = await Client(migrated).add_raw_job("record", BRIEF, JobSpec(queue_name="q"))
    await worker_registry.heartbeat(migrated, "trio_graphile_dead")
    assert await claims.get_jobs(migrated, "trio_graphile_dead", ["record"], 1)

    async def is_free() -> bool:
        return await job_row(migrated, job.id) == (0, None, True)

    async with rust.worker(database_url, heartbeatInterval=200, sweepInterval=200, sweepThreshold=2000):
        await until(is_free)
    assert await worker_registry.list_active_workers(migrated, 60.0) == []


# --- what is replaced while it runs ---------------------------------------------------------------


async def test_what_we_replace_while_rust_runs_it_does_not_run_again(
    rust: RustWorker, migrated: Database, database_url: str, runs: Runs
) -> None:
    """Not even if the transaction that replaces it is older than the claim, and the worker then dies."""
    client, spec = Client(migrated), JobSpec(queue_name="q", job_key="k")
    async with migrated.transaction() as connection:
        await connection.execute("select now()")
        job = await client.add_raw_job("record", LONG, spec)
        async with rust.worker(database_url, heartbeatInterval=200, sweepInterval=600_000) as process:
            with trio.fail_after(60):
                await runs.wait_started(1)
            replacing = await client.using(connection).add_raw_job("record", BRIEF, spec)
            process.kill()
    await until(lambda: swept(migrated))
    assert await job_row(migrated, job.id) == (25, None, False)
    await Worker(migrated, tasks).run_once()
    assert await runs.sides() == {job.id: ["rust"], replacing.id: ["python"]}


async def test_what_rust_replaces_while_we_run_it_does_not_run_again(
    rust: RustWorker, migrated: Database, database_url: str
) -> None:
    registry, running, replaced = TaskRegistry(), trio.Event(), trio.Event()
    ran: list[str] = []

    @registry.task("wait")
    async def wait(payload: str) -> None:
        ran.append(payload)
        if payload == "first":
            running.set()
            await trio.sleep_forever()
        replaced.set()

    client = Client(migrated, registry)
    worker = Worker(migrated, registry)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            job = await client.add_job(wait, "first", JobSpec(job_key="k"))
            await running.wait()
            await rust.run(database_url, "add", [["wait", "second", {"jobKey": "k"}]])
            await replaced.wait()
            nursery.cancel_scope.cancel()
    assert ran == ["first", "second"]
    assert await job_row(migrated, job.id) == (25, None, False)
    await Worker(migrated, registry).run_once()
    assert ran == ["first", "second"]
