"""Pages of tasks, with what they have to do, and the tasks that nobody has."""

from __future__ import annotations

import pytest

from tests.database.random_jobs import add_random_jobs, all_jobs
from trio_graphile import Connection, Database
from trio_graphile._database.summaries.tasks import find_neglected, summarize_tasks
from trio_graphile._model.diagnosis import Neglected
from trio_graphile._model.listing import Count

ADD_TASKS = "insert into graphile_worker._private_tasks (identifier) select unnest($1::text[])"
ADD_JOBS = """
    select graphile_worker.add_job($1::text, run_at => now() - $2::text::interval, queue_name => $3::text)
    from generate_series(1, $4::integer)
"""


@pytest.mark.parametrize("seed", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("dropped", [None, "trio_graphile_task_index", "trio_graphile_failed_index"])
async def test_tasks_are_as_counted_by_hand(connection: Connection, seed: float, dropped: str | None) -> None:
    await add_random_jobs(connection, 150, seed)
    if dropped is not None:
        await connection.execute(f"drop index graphile_worker.{dropped}")
    async with connection.transaction():
        jobs = await all_jobs(connection)
        found = await summarize_tasks(connection, cap=150)
    assert [task.identifier for task in found.tasks] == [f"task-{number}" for number in range(1, 7)]
    assert found.next is None
    for task in found.tasks:
        of_task = [job for job in jobs if job["task_id"] == task.id]
        for state in ("ready", "scheduled", "failed"):
            number = sum(job["state"] == state for job in of_task)
            assert getattr(task, state) == Count(value=number), (task, state)
        oldest = min((job["run_at"] for job in of_task if job["state"] == "ready"), default=None)
        assert task.oldest_ready_at == oldest


async def test_beyond_the_cap_there_are_at_least_so_many(connection: Connection) -> None:
    await add_random_jobs(connection, 800)
    found = await summarize_tasks(connection, cap=10)
    *busy, idle = found.tasks
    for task in busy:
        assert {task.ready, task.scheduled, task.failed} == {Count(value=10, is_estimate=True)}
    assert {idle.ready, idle.scheduled, idle.failed} == {Count(value=0)}


async def test_a_page_of_many_tasks_counts_fewer_of_each(connection: Connection) -> None:
    await connection.execute(ADD_TASKS, [f"task {number}" for number in range(500)])
    await connection.execute(ADD_JOBS, "task 7", "1 hour", None, 1001)
    found = await summarize_tasks(connection, limit=500)
    [busy] = [task for task in found.tasks if task.identifier == "task 7"]
    assert busy.ready == Count(value=1000, is_estimate=True)


async def test_more_jobs_in_queues_than_are_looked_at_make_estimates(connection: Connection) -> None:
    await add_random_jobs(connection, 200)
    found = await summarize_tasks(connection, window=20)
    assert all(task.ready.is_estimate and task.scheduled.is_estimate for task in found.tasks)
    assert not any(task.failed.is_estimate for task in found.tasks)
    exact = await summarize_tasks(connection)
    for task, other in zip(found.tasks, exact.tasks, strict=True):
        assert task.ready.value <= other.ready.value


async def test_pages_follow_each_other_to_the_end(database: Database) -> None:
    wanted = ["", "a", "b", "B", "é"]
    await database.execute(ADD_TASKS, wanted)
    seen: list[str] = []
    after: str | None = None
    for _ in range(3):
        found = await summarize_tasks(database, after, 2)
        seen += [task.identifier for task in found.tasks]
        after = found.next
    assert after is None
    assert sorted(seen) == sorted(wanted)


async def test_a_task_is_neglected_if_nobody_has_it_and_its_jobs_have_waited(database: Database) -> None:
    for identifier, age, queue, number in [
        ("had", "1 hour", None, 1),
        ("young", "1 second", None, 1),
        ("future", "-1 hour", None, 1),
        ("plain", "1 hour", None, 2),
        ("queued", "1 hour", "q", 3),
        ("both", "1 hour", None, 1),
        ("both", "2 hours", "q", 1),
    ]:
        await database.execute(ADD_JOBS, identifier, age, queue, number)
    found = await find_neglected(database, ["had"])
    assert [(one.identifier, one.jobs) for one in found] == [("both", 2), ("plain", 2), ("queued", 3)]
    oldest = await database.fetch_value("select min(run_at) from graphile_worker._private_jobs")
    assert found[0] == Neglected(identifier="both", jobs=2, since=oldest)
    assert await find_neglected(database, ["had"], neglected_after=10_000.0) == []
