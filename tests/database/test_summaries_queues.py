"""Pages of named queues, with what waits in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.database.random_jobs import add_random_jobs, all_jobs
from trio_graphile import Connection, Database
from trio_graphile._database.summaries.queues import summarize_queues
from trio_graphile._model.listing import Count, FoundQueues

ADD_QUEUES = "insert into graphile_worker._private_job_queues (queue_name) select unnest($1::text[])"


def names(found: FoundQueues) -> list[str]:
    return [queue.queue_name for queue in found.queues]


def head(jobs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    due = [job for job in jobs if job["is_due"]]
    if due:
        return min(due, key=lambda job: (job["priority"], job["run_at"], job["id"]))
    return min(jobs, key=lambda job: (job["run_at"], job["id"]), default=None)


@pytest.mark.parametrize("seed", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("has_index", [True, False])
async def test_queues_are_as_counted_by_hand(connection: Connection, seed: float, *, has_index: bool) -> None:
    await add_random_jobs(connection, 150, seed)
    if not has_index:
        await connection.execute("drop index graphile_worker.trio_graphile_queue_index")
    async with connection.transaction():
        jobs = await all_jobs(connection)
        found = await summarize_queues(connection, cap=150)
    assert names(found) == [f"queue-{number}" for number in range(1, 9)]
    assert (found.next, found.scanned) == (None, 8)
    for queue in found.queues:
        waiting = [
            job for job in jobs if job["job_queue_id"] == queue.id and job["state"] in {"ready", "scheduled"}
        ]
        first = head(waiting)
        assert queue.jobs == Count(value=len(waiting))
        assert queue.ready == Count(value=sum(job["is_due"] for job in waiting))
        assert queue.head_id == (first and first["id"])
        assert queue.head_task_identifier == (first and first["identifier"])
        assert queue.waiting_since == (first["run_at"] if first and first["is_due"] else None)
    assert [(queue.id, queue.locked_by) for queue in found.queues if queue.locked_at is not None] == [
        (found.queues[1].id, "holder")
    ]


async def test_beyond_the_cap_there_are_at_least_so_many(connection: Connection) -> None:
    await add_random_jobs(connection, 400)
    found = await summarize_queues(connection, cap=10)
    assert {queue.jobs for queue in found.queues[:5]} == {Count(value=10, is_estimate=True)}
    assert all(queue.ready.is_estimate for queue in found.queues[:5])
    assert {queue.jobs for queue in found.queues[6:]} == {Count(value=0)}


async def test_without_an_index_by_queue_the_newest_jobs_say_it(connection: Connection) -> None:
    await add_random_jobs(connection, 200)
    await connection.execute("drop index graphile_worker.trio_graphile_queue_index")
    exact = await summarize_queues(connection, window=201)
    assert not any(queue.jobs.is_estimate for queue in exact.queues)
    found = await summarize_queues(connection, window=100)
    assert all(queue.jobs.is_estimate for queue in found.queues)
    assert sum(queue.jobs.value for queue in found.queues) < sum(queue.jobs.value for queue in exact.queues)


async def test_pages_follow_each_other_to_the_end(database: Database) -> None:
    wanted = ["", "a", "b", "B", "c%", "c_", "é"]
    await database.execute(ADD_QUEUES, wanted)
    seen, after, pages = [], None, 0
    while True:
        found = await summarize_queues(database, after, 2)
        seen += names(found)
        pages += 1
        if (after := found.next) is None:
            break
    assert sorted(seen) == sorted(wanted)
    assert pages == 4


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("A", ["a", "BA"]),
        ("%", ["c%"]),
        ("_", ["c_"]),
        ("\\", ["d\\"]),
        ("'", []),
        ("", ["a", "BA", "c%", "c_", "d\\"]),
    ],
)
async def test_names_are_searched_literally(database: Database, search: str, found: list[str]) -> None:
    await database.execute(ADD_QUEUES, ["a", "BA", "c%", "c_", "d\\"])
    page = await summarize_queues(database, search=search)
    assert sorted(names(page)) == sorted(found)


async def test_a_search_goes_on_where_it_left_off(database: Database) -> None:
    await database.execute(ADD_QUEUES, [*(f"a{number}" for number in range(9)), "b"])
    first = await summarize_queues(database, search="b", window=6)
    assert (names(first), first.scanned, first.next) == ([], 6, "a5")
    second = await summarize_queues(database, first.next, search="b", window=6)
    assert (names(second), second.scanned, second.next) == (["b"], 4, None)


async def test_a_search_that_finds_more_than_it_may_return_goes_on(database: Database) -> None:
    await database.execute(ADD_QUEUES, ["a1", "a2", "a3", "b"])
    first = await summarize_queues(database, limit=2, search="a")
    assert (names(first), first.next) == (["a1", "a2"], "a2")
    second = await summarize_queues(database, first.next, 2, search="a")
    assert (names(second), second.next) == (["a3"], None)
