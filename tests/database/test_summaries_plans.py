"""What summaries cost does not depend on how many jobs there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.database.random_jobs import add_random_jobs, buffers_of, plan_of, scanned_tables, vacuum_jobs
from trio_graphile import Connection, Database
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries import counts, facts, failures, levels, queues, tasks

N = 200_000  # beyond which their indexes are as deep as those of twice as many
SLACK = 100
"""Statistics are a sample, and another plan may look at some pages more. To read all takes thousands."""
CAP = 50
JOB = N // 2
TASKS, QUEUES = [*range(1, 7)], [*range(1, 9)]

STATEMENTS: dict[str, tuple[Statement, tuple[object, ...]]] = {
    "counts.COUNT_FEW": (counts.COUNT_FEW, (CAP,)),
    "counts.COUNT_AVAILABLE": (counts.COUNT_AVAILABLE, (CAP, 500)),
    "counts.COUNT_FAILED": (counts.COUNT_FAILED, (CAP,)),
    "tasks.COUNT_UNQUEUED": (tasks.COUNT_UNQUEUED, (CAP, 100, TASKS)),
    "tasks.COUNT_QUEUED": (tasks.COUNT_QUEUED, (TASKS, 200)),
    "tasks.COUNT_FAILED_OF_TASKS": (tasks.COUNT_FAILED_OF_TASKS, (TASKS, CAP)),
    "tasks.COUNT_NEWEST": (tasks.COUNT_NEWEST, (TASKS, 200)),
    "facts.COUNT_AHEAD_OF_TASK": (facts.COUNT_AHEAD_OF_TASK, (JOB, CAP)),
    "facts.COUNT_AHEAD_IN_QUEUE": (facts.COUNT_AHEAD_IN_QUEUE, (JOB, CAP)),
    "facts.COUNT_AHEAD_OF_TASK_IN_NEWEST": (facts.COUNT_AHEAD_OF_TASK_IN_NEWEST, (JOB, CAP, 200)),
    "facts.COUNT_AHEAD_IN_QUEUE_IN_NEWEST": (facts.COUNT_AHEAD_IN_QUEUE_IN_NEWEST, (JOB, CAP, 200)),
    "facts.FIND_RUNNING": (facts.FIND_RUNNING, (JOB, 1, 200)),
    "facts.GET_QUEUE": (facts.GET_QUEUE, (JOB,)),
    "failures.FIND_FAILED_TASKS": (failures.FIND_FAILED_TASKS, (1000,)),
    "failures.COUNT_LAST_ATTEMPTS": (failures.COUNT_LAST_ATTEMPTS, (TASKS, CAP)),
    "failures.GROUP_FAILURES": (failures.GROUP_FAILURES, (TASKS, [CAP] * len(TASKS), 10)),
    "failures.GROUP_NEWEST_FAILURES": (failures.GROUP_NEWEST_FAILURES, (None, CAP, 10)),
    "queues.COUNT_WAITING": (queues.COUNT_WAITING, (QUEUES, CAP)),
    "queues.COUNT_WAITING_OF_NEWEST": (queues.COUNT_WAITING_OF_NEWEST, (QUEUES, CAP, 200)),
}


async def look(connection: Connection, seed: float) -> dict[str, Mapping[str, Any]]:
    """Add so many jobs, and return the plan of each statement."""
    await add_random_jobs(connection, N, seed)
    await vacuum_jobs(connection)
    return {
        name: await plan_of(connection, statement, *arguments)
        for name, (statement, arguments) in STATEMENTS.items()
    }


async def test_twice_as_many_jobs_cost_no_more(connection: Connection) -> None:
    """Half of them are due at the same time. The table itself is never read."""
    before, after = [await look(connection, seed) for seed in (0.1, 0.2)]
    allowed = {name: 1.2 * buffers_of(plan) + SLACK for name, plan in before.items()}
    assert {name: buffers_of(plan) for name, plan in after.items() if buffers_of(plan) > allowed[name]} == {}
    assert {name for name, plan in after.items() if "_private_jobs" in scanned_tables(plan)} == set()


ADD_TIE = """
    insert into graphile_worker._private_jobs (task_id, job_queue_id, priority, run_at)
    select 1, case when number % 20 = 0 then 1 end, -10, timestamptz '2020-01-01'
    from generate_series(1, 200000) as number
"""


async def test_sessions_of_the_admin_do_not_sort_what_is_due_at_one_time(database: Database) -> None:
    """However the planner reckons: it would read all of it, to sort the few that have a queue by id."""
    await add_random_jobs(database, 20_000)
    await database.execute(ADD_TIE)
    await vacuum_jobs(database)
    beside = database.beside("admin", pool_size=1, statement_timeout=5.0, read_only=False, steady_plans=True)
    async with beside as own, own.connection() as connection:
        plan = await plan_of(connection, tasks.COUNT_QUEUED, TASKS, 200)
    assert buffers_of(plan) < 500


def test_many_sources_share_what_is_counted() -> None:
    """Up to so many of each are a great many in all."""
    assert [levels.cap_of_each(10_000, sources) for sources in (0, 1, 50, 500)] == [
        10_000,
        10_000,
        10_000,
        1000,
    ]
    assert levels.cap_of_each(10, 50_000_000) == 1
