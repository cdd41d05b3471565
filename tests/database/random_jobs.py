"""Jobs of every kind at random, and the rows that they are, for tests that count them by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import trio

from tests.support.waiting import PATIENCE
from trio_graphile import Connection, Database
from trio_graphile._database.statement import Statement, quote_identifier

ADD_TASKS_AND_QUEUES = """
    with added as (
      insert into graphile_worker._private_job_queues (queue_name, locked_at, locked_by)
      select 'queue-' || number, case when number = 2 then now() end, case when number = 2 then 'holder' end
      from generate_series(1, 8) as number
    )
    insert into graphile_worker._private_tasks (identifier)
    select 'task-' || number
    from generate_series(1, 6) as number
"""

ADD_JOBS = """
    with seeded as materialized (select setseed($2::float8)),
    drawn as materialized (
      select random() as task, random() as queue, random() as priority, random() as time, random() as state,
        random() as error
      from seeded
      cross join generate_series(1, $1::integer)
    )
    insert into graphile_worker._private_jobs
      (task_id, job_queue_id, priority, run_at, attempts, max_attempts, last_error, locked_at, locked_by)
    select 1 + floor(drawn.task * 5),
      case when drawn.queue < 0.3 then 1 + floor(drawn.queue * 20) end,
      floor(drawn.priority * 5) - 2,
      case
        when drawn.time < 0.5 then date_trunc('hour', now()) - interval '1 hour'
        else now() + (drawn.time - 0.75) * interval '8 hours'
      end,
      case when drawn.state < 0.2 then 3 else floor(drawn.state * 3) end,
      3,
      case
        when drawn.error < 0.1 then null
        when drawn.error < 0.2 then ''
        else 'Error ' || floor(drawn.error * 1000) || ' of ' || floor(drawn.error * 3) || E'\nat line 1'
      end,
      case when drawn.state between 0.18 and 0.25 then now() end,
      case when drawn.state between 0.18 and 0.25 then 'worker-' || floor(drawn.error * 3) end
    from drawn
"""  # $1 how many, $2 the seed. Half of them at one time; 20 of 100 without attempts, 7 locked, 2 both.

ARE_ALL_VISIBLE = """
    select relallvisible >= relpages
    from pg_class
    where oid = 'graphile_worker._private_jobs'::regclass
"""

ALL_JOBS = """
    select jobs.id, jobs.task_id, tasks.identifier, jobs.job_queue_id, jobs.priority, jobs.run_at,
      jobs.created_at, jobs.attempts, jobs.last_error, jobs.locked_at, jobs.locked_by,
      jobs.run_at <= now() as is_due,
      case
        when jobs.locked_at is not null then 'locked'
        when jobs.attempts >= jobs.max_attempts then 'failed'
        when jobs.run_at > now() then 'scheduled'
        else 'ready'
      end as state
    from graphile_worker._private_jobs as jobs
    left join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
    order by jobs.id
"""


async def add_random_jobs(database: Database | Connection, count: int, seed: float = 0.5) -> None:
    """Add so many jobs; the first time with six tasks, of which the last has none, and eight queues."""
    if not await database.fetch_value("select exists (select from graphile_worker._private_tasks)"):
        await database.execute(ADD_TASKS_AND_QUEUES)
    await database.execute(ADD_JOBS, count, seed)


async def vacuum_jobs(database: Database | Connection) -> None:
    """Vacuum and analyze until every row is known to be visible to all: then an index alone has to be read.

    Whoever else looks at the database at that moment, such as its own autovacuum, keeps a vacuum from that.
    """
    with trio.fail_after(PATIENCE):
        while True:
            await database.execute("vacuum (analyze) graphile_worker._private_jobs")
            if await database.fetch_value(ARE_ALL_VISIBLE):
                return


async def all_jobs(database: Database | Connection) -> list[Mapping[str, Any]]:
    return await database.fetch(ALL_JOBS)


async def plan_of(connection: Connection, statement: Statement, *arguments: object) -> Mapping[str, Any]:
    """Run a statement and return the plan, with what each node of it did."""
    sql = statement.for_schema(quote_identifier("graphile_worker"))
    explained = await connection.fetch_value(f"explain (analyze, buffers, format json) {sql}", *arguments)
    [plan] = json.loads(explained) if isinstance(explained, str) else explained
    root: Mapping[str, Any] = plan["Plan"]
    return root


def nodes_of(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


def buffers_of(plan: Mapping[str, Any]) -> int:
    """Return how many pages were looked at, in memory or not."""
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def scanned_tables(plan: Mapping[str, Any]) -> set[str]:
    return {node["Relation Name"] for node in nodes_of(plan) if node["Node Type"] == "Seq Scan"}
