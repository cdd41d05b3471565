"""What the client shows of a queue: pages of jobs, one job, queues, tasks and workers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from trio_graphile import (
    Client,
    Database,
    DatabaseOptions,
    Job,
    JobCounts,
    JobFilter,
    JobSpec,
    JobState,
    OptionInvalid,
    QueueStatus,
    SchemaMissing,
    TaskStatus,
    WorkerStatus,
    open_database,
)
from trio_graphile._database import worker_registry

LOCK = """
    update graphile_worker._private_jobs
    set locked_by = $2::text, locked_at = now(), attempts = 1
    where id = $1::bigint
"""
FAIL = "update graphile_worker._private_jobs set attempts = max_attempts where id = $1::bigint"


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


async def add(client: Client, count: int) -> list[int]:
    return [job.id for job in await client.add_raw_jobs([("a", None)] * count)]


async def pages(client: Client, first: JobFilter) -> AsyncIterator[list[int]]:
    which: JobFilter | None = first
    while which is not None:
        page = await client.jobs(which)
        yield [listed.job.id for listed in page.jobs]
        which = page.next


# --- jobs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (50, [4])]
)
async def test_pages_have_all_jobs_by_id(client: Client, limit: int, sizes: list[int]) -> None:
    ids = await add(client, 4)
    seen = [page async for page in pages(client, JobFilter(limit=limit))]
    assert [len(page) for page in seen] == sizes
    assert [job_id for page in seen for job_id in page] == ids


async def test_no_job_is_the_last_page(client: Client) -> None:
    page = await client.jobs()
    assert (page.jobs, page.next) == ((), None)


async def test_pages_stay_right_while_jobs_come_and_go(client: Client) -> None:
    ids = await add(client, 6)
    seen = pages(client, JobFilter(limit=2))
    assert await anext(seen) == ids[:2]
    await client.complete_jobs([*ids[:2], ids[3]])  # pages counted from the start would leave out two
    more = await add(client, 1)
    assert [page async for page in seen] == [[ids[2], ids[4]], [ids[5], *more]]


async def test_what_an_offset_leaves_out_is_left_out_once(client: Client) -> None:
    ids = await add(client, 5)
    assert [page async for page in pages(client, JobFilter(limit=2, offset=1))] == [ids[1:3], ids[3:]]


async def test_jobs_are_chosen_by_each_condition(client: Client, database: Database) -> None:
    plain = await client.add_raw_job("a")
    key_and_flags = await client.add_raw_job("a", spec=JobSpec(job_key="k", flags=["f", "g"]))
    queued = await client.add_raw_job("b", spec=JobSpec(queue_name="q", flags=["f"]))
    locked, failed = await client.add_raw_jobs([("b", None), ("b", None)])
    await database.execute(LOCK, locked.id, "w")
    await database.execute(FAIL, failed.id)

    async def chosen(which: JobFilter) -> list[int]:
        return [listed.job.id for listed in (await client.jobs(which)).jobs]

    for which, expected in (
        (JobFilter(task_identifier="a"), [plain, key_and_flags]),
        (JobFilter(queue_name="q"), [queued]),
        (JobFilter(key="k"), [key_and_flags]),
        (JobFilter(flags=["f"]), [key_and_flags, queued]),
        (JobFilter(flags=["g", "f"]), [key_and_flags]),
        (JobFilter(flags=[]), [plain, key_and_flags, queued, locked, failed]),
        (JobFilter(locked_by="w"), [locked]),
        (JobFilter(state=JobState.LOCKED), [locked]),
        (JobFilter(state=JobState.FAILED), [failed]),
        (JobFilter(state="ready"), [plain, key_and_flags, queued]),  # by its name, too
        (JobFilter(after=queued.id), [locked, failed]),
        (JobFilter(task_identifier="b", flags=["f"], state=JobState.READY), [queued]),
        (JobFilter(task_identifier="a", queue_name="q"), []),
    ):
        assert await chosen(which) == [job.id for job in expected], which


async def test_a_job_is_shown_with_what_the_database_knows_of_it(client: Client, database: Database) -> None:
    added = await client.add_raw_job("a", {"x": 1}, JobSpec(queue_name="q", job_key="k"))
    shown = await client.job(added.id)
    assert shown is not None
    assert (shown.job, shown.state, shown.is_available) == (added, JobState.READY, True)
    assert shown.job_queue_id == (await client.queues())[0].id
    assert shown.task_id == (await client.known_tasks())[0].id
    await database.execute(LOCK, added.id, "w")
    locked = await client.job(added.id)
    assert locked is not None
    assert (locked.state, locked.is_available, locked.job.locked_by) == (JobState.LOCKED, False, "w")


async def test_there_is_no_job_with_an_id_of_no_job(client: Client) -> None:
    [job_id] = await add(client, 1)
    await client.complete_jobs([job_id])
    for nothing in (job_id, 0, -1, 2**63 - 1, 2**63, -(2**70)):
        assert await client.job(nothing) is None
    with pytest.raises(OptionInvalid, match="job_id"):
        await client.job("1")  # type: ignore[arg-type]


async def test_values_that_python_has_not_hide_no_jobs(client: Client, database: Database) -> None:
    jobs = await client.add_raw_jobs([("a", None)] * 2)
    change = "update graphile_worker._private_jobs set {} where id = $1::bigint"
    await database.execute(change.format("run_at = 'infinity', flags = '[\"f\", 1]'"), jobs[0].id)
    await database.execute(change.format("run_at = '4000-01-01 BC', flags = '\"f\"'"), jobs[1].id)
    await database.execute(
        """
        insert into graphile_worker._private_jobs (id, task_id, created_at)
        overriding system value
        select -5, tasks.id, '20000-01-01'
        from graphile_worker._private_tasks as tasks
        """
    )
    ids = [-5, jobs[0].id, jobs[1].id]
    assert [page async for page in pages(client, JobFilter(limit=1))] == [[job_id] for job_id in ids]
    assert [page async for page in pages(client, JobFilter(flags=["f"]))] == [ids[1:]]
    shown = [await client.job(job_id) for job_id in ids]
    assert [one and (one.job.id, one.job.run_at.year) for one in shown][1:] == [(ids[1], 9999), (ids[2], 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "late"},
        {"flags": "slow"},
        {"flags": [1]},
        {"key": "\0"},
        {"queue_name": 5},
        {"limit": 0},
        {"limit": 100_001},
        {"limit": "5"},
        {"limit": None},
        {"offset": -1},
        {"after": 2**63},
    ],
    ids=str,
)
def test_a_condition_that_cannot_be_met_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionInvalid) as refused:
        JobFilter(**wrong)  # type: ignore[arg-type]
    assert refused.value.option in wrong


# --- queues, tasks and workers ----------------------------------------------------------------------


async def test_queues_and_tasks_are_shown_with_their_jobs(client: Client, database: Database) -> None:
    first, second = await client.add_raw_jobs([("a", None, JobSpec(queue_name="q"))] * 2)
    await database.execute(FAIL, second.id)
    [queue] = await client.queues()
    assert queue == QueueStatus(id=queue.id, queue_name="q", job_count=2, ready_count=1)
    [task] = await client.known_tasks()
    counts = JobCounts(total=2, ready=1, failed=1)
    assert task == TaskStatus(id=task.id, identifier="a", counts=counts, oldest_ready_at=first.run_at)


async def test_workers_are_shown_with_what_they_hold(client: Client, database: Database) -> None:
    ours, foreign = await add(client, 2)
    await database.execute(LOCK, ours, "busy")
    await database.execute(LOCK, foreign, "unregistered")
    await worker_registry.heartbeat(database, "idle")
    await worker_registry.heartbeat(database, "busy", {"pid": 1})
    busy, idle = await client.list_active_workers()
    assert await client.workers() == [
        WorkerStatus(worker_id="busy", locked_jobs=1, registration=busy),
        WorkerStatus(worker_id="idle", registration=idle),
        WorkerStatus(worker_id="unregistered", locked_jobs=1),
    ]
    stale = [one.registration is not None and one.registration.is_stale for one in await client.workers(0)]
    assert stale == [True, True, False]


async def test_workers_are_shown_where_none_can_register(client: Client, database: Database) -> None:
    [job_id] = await add(client, 1)
    await database.execute(LOCK, job_id, "node")
    await database.execute("drop table graphile_worker._private_workers cascade")
    assert await client.workers() == [WorkerStatus(worker_id="node", locked_jobs=1)]


# --- whose transaction ------------------------------------------------------------------------------


async def test_the_callers_transaction_shows_what_it_has_done(client: Client, database: Database) -> None:
    async with database.transaction() as connection:
        using = client.using(connection)
        added: Job = await using.add_raw_job("a", spec=JobSpec(queue_name="q"))
        for reader, count in ((using, 1), (client, 0)):
            assert len((await reader.jobs()).jobs) == count
            assert (await reader.job(added.id) is None) == (count == 0)
            assert len(await reader.queues()) == len(await reader.known_tasks()) == count
            assert (await reader.backlog()).ready == count
        await connection.execute(LOCK, added.id, "w")
        assert [worker.worker_id for worker in await using.workers()] == ["w"]
        assert await client.workers() == []


async def test_a_missing_schema_is_named_to_readers(empty_database_url: str) -> None:
    async with open_database(empty_database_url, DatabaseOptions(schema="elsewhere")) as database:
        client = Client(database)
        for look in (
            client.jobs,
            lambda: client.job(1),
            client.queues,
            client.known_tasks,
            client.workers,
            client.backlog,
        ):
            with pytest.raises(SchemaMissing, match="elsewhere"):
                await look()
