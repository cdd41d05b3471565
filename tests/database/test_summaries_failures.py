"""Groups of failed jobs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.database.random_jobs import add_random_jobs, all_jobs
from trio_graphile import Connection, Database
from trio_graphile._database.connection import Executor
from trio_graphile._database.summaries.failures import group_failures, share_out
from trio_graphile._model.failure_groups import error_group
from trio_graphile._model.listing import Count

ADD_FAILED = """
    insert into graphile_worker._private_jobs (task_id, run_at, attempts, max_attempts, last_error, locked_at)
    select $1::integer, now() - number * interval '1 minute', $2::smallint, 1, $3::text,
      case when $5::text is not null then now() end
    from generate_series(1, $4::integer) as number
"""
NAME_TASKS = "insert into graphile_worker._private_tasks (identifier) values ('a'), ('b')"


@pytest.fixture
async def failing(connection: Connection) -> Connection:
    await connection.execute(NAME_TASKS)
    return connection


async def add_failed(
    executor: Executor, task_id: int, error: str | None, count: int, locked_by: str | None = None
) -> None:
    await executor.execute(ADD_FAILED, task_id, 1, error, count, locked_by)


def failed_at(job: Mapping[str, Any]) -> datetime:
    run_at: datetime = job["run_at"]
    created_at: datetime = job["created_at"]
    return max(created_at, run_at - timedelta(seconds=math.exp(min(job["attempts"], 10))))


@pytest.mark.parametrize("seed", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("dropped", [None, "trio_graphile_failed_index"])
async def test_groups_are_as_counted_by_hand(
    connection: Connection, seed: float, dropped: str | None
) -> None:
    await add_random_jobs(connection, 400, seed)
    if dropped is not None:
        await connection.execute(f"drop index graphile_worker.{dropped}")
    expected: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for job in await all_jobs(connection):
        if job["state"] == "failed":
            expected[job["identifier"], error_group(job["last_error"])].append(job)
    groups = await group_failures(connection)
    assert {(one.task_identifier, one.error): one.count for one in groups} == {
        key: Count(value=len(jobs)) for key, jobs in expected.items()
    }
    for one in groups:
        jobs = expected[one.task_identifier, one.error]
        latest = max(jobs, key=lambda job: (failed_at(job), job["id"]))
        assert one.example_id == latest["id"]
        assert abs(one.latest_at - failed_at(latest)) < timedelta(milliseconds=1)
    order = [(-one.count.value, -one.latest_at.timestamp()) for one in groups]
    assert order == sorted(order)
    assert await group_failures(connection, limit=2) == groups[:2]
    of_two = await group_failures(connection, ["task-1", "task-3", "unknown"])
    assert of_two == [one for one in groups if one.task_identifier in {"task-1", "task-3"}]


async def test_an_error_that_is_missing_is_a_group_of_its_own(failing: Connection) -> None:
    await add_failed(failing, 1, None, 2)
    await add_failed(failing, 2, "", 1)
    groups = await group_failures(failing)
    assert [(one.task_identifier, one.error, one.count.value) for one in groups] == [
        ("a", "", 2),
        ("b", "", 1),
    ]


@pytest.mark.parametrize(
    "error",
    [
        None,
        "",
        "\n",
        "\nsecond line",
        "one 12 and 3,4\nsecond 5",
        "windows 1\r\nsecond",
        "\u0663\u0664 \uff11 \u00b2 \U0001d7d9",
        "\u2028 1 \x0b 2 \x0c 3",
        "\\1 % _ ' \" {schema} $1",
        "x" * 199 + "123",
        "12 " * 150,
        "\U0001f600" * 300,
    ],
)
async def test_the_database_folds_errors_as_we_do(failing: Connection, error: str | None) -> None:
    await add_failed(failing, 1, error, 1)
    [group] = await group_failures(failing)
    assert group.error == error_group(error)


async def test_jobs_that_run_for_the_last_time_have_not_failed(failing: Connection) -> None:
    await add_failed(failing, 1, "before", 2, locked_by="worker")
    assert await group_failures(failing) == []


async def test_failed_jobs_of_a_task_that_was_deleted_are_seen(failing: Connection) -> None:
    await add_failed(failing, 99, "lost", 2)
    [group] = await group_failures(failing)
    assert (group.task_identifier, group.error, group.count) == ("", "lost", Count(value=2))


async def test_of_many_the_latest_are_looked_at(failing: Connection) -> None:
    await add_failed(failing, 1, "new", 5)
    await failing.execute("update graphile_worker._private_jobs set run_at = run_at + interval '1 day'")
    await add_failed(failing, 1, "old", 50)
    await add_failed(failing, 2, "few", 1)
    groups = await group_failures(failing, most_of_task=8)
    assert [(one.error, one.count) for one in groups] == [
        ("new", Count(value=5, is_estimate=True)),
        ("old", Count(value=3, is_estimate=True)),
        ("few", Count(value=1)),
    ]
    shared = await group_failures(failing, window=12)  # one of them for the task that has no more
    assert {one.error: one.count.value for one in shared} == {"new": 5, "old": 6, "few": 1}


@pytest.mark.parametrize(
    ("window", "counts", "shares"),
    [
        (100, {}, {}),
        (100, {1: 5, 2: 7}, {1: 5, 2: 7}),
        (100, {1: 500, 2: 10, 3: 500}, {2: 10, 1: 45, 3: 45}),
        (10, {1: 0, 2: 500}, {1: 0, 2: 10}),
        (2, {1: 9, 2: 9, 3: 9}, {1: 1, 2: 1, 3: 1}),
    ],
)
def test_what_is_few_is_looked_at_whole(window: int, counts: dict[int, int], shares: dict[int, int]) -> None:
    assert share_out(window, counts) == shares


async def test_without_an_index_the_newest_jobs_are_looked_at(failing: Connection) -> None:
    await failing.execute("drop index graphile_worker.trio_graphile_failed_index")
    await add_failed(failing, 1, "old", 5)
    await add_failed(failing, 1, "new", 3)
    [new, old] = await group_failures(failing, window=5)
    assert (new.error, new.count) == ("new", Count(value=3, is_estimate=True))
    assert (old.error, old.count) == ("old", Count(value=2, is_estimate=True))


async def test_a_time_at_the_end_of_all_times_is_no_harm(database: Database) -> None:
    await add_failed(database, 1, "never", 1)
    await database.execute("update graphile_worker._private_jobs set run_at = 'infinity'")
    [group] = await group_failures(database)
    assert group.latest_at == datetime.max.replace(tzinfo=UTC)
