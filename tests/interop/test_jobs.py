from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from tests.interop.graphile_worker import GraphileWorker
from tests.interop.runs import recorded_runs
from trio_graphile import Client, Database, JobSpec, TaskRegistry, Worker, WorkerOptions, open_database

pytestmark = pytest.mark.interop


async def rows_by_task(database: Database) -> dict[str, Any]:
    rows = await database.fetch("""
        select tasks.identifier, jobs.attempts, jobs.last_error, jobs.locked_by,
          jobs.payload::text as payload, jobs.run_at - jobs.updated_at as delay
        from graphile_worker._private_jobs as jobs
        join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
    """)
    return {row["identifier"]: row for row in rows}


async def test_node_runs_what_we_added(node: GraphileWorker, database: Database, database_url: str) -> None:
    client = Client(database)
    await client.add_raw_job("succeed", {"to": "ada"})
    await client.add_raw_job("fail", spec=JobSpec(queue_name="serial", priority=-3, flags=["slow"]))
    items = [{"name": "a"}, {"name": "b", "broken": True}, {"name": "c"}]
    await client.add_raw_job("index", items)

    await node.run(database_url, "once.mjs", {"concurrency": 1})

    rows = await rows_by_task(database)
    assert rows.keys() == {"fail", "index"}
    assert all(row["attempts"] == 1 and row["locked_by"] is None for row in rows.values())
    assert rows["fail"]["last_error"] == "no luck"
    assert timedelta(seconds=2.7) < rows["fail"]["delay"] < timedelta(seconds=30)
    assert rows["index"]["payload"] == '[{"name":"b","broken":true}]'
    assert "b is broken" in rows["index"]["last_error"]
    locked = "select count(*) from graphile_worker._private_job_queues where locked_at is not null"
    assert await database.fetch_value(locked) == 0


async def test_node_keeps_the_order_of_a_queue_that_we_filled(
    node: GraphileWorker, database: Database, database_url: str
) -> None:
    """Not with run-once: Node's may end while its queue, just freed, seems locked to it."""
    spec = JobSpec(queue_name="serial")
    payload = {"queue_name": "serial", "seconds": 0.01}
    async with (
        recorded_runs(database) as runs,
        node.worker(database_url, concurrency=4, pollInterval=100),
    ):
        jobs = await Client(database).add_raw_jobs([("record", payload, spec)] * 6)
        with trio.fail_after(30):
            await runs.wait_finished(6)
        ran = await database.fetch("select job_id from runs order by started_at")
        assert [row["job_id"] for row in ran] == [job.id for job in jobs]
        assert await runs.overlapping() == 0


async def test_we_run_what_node_added(node: GraphileWorker, database: Database, database_url: str) -> None:
    await run_what_node_added(node, database, database_url)


async def test_we_run_what_node_added_to_a_schema_of_its_own(
    node: GraphileWorker, empty_database_url: str
) -> None:
    async with open_database(empty_database_url) as database:
        await run_what_node_added(node, database, empty_database_url)


@attrs.frozen(kw_only=True)
class Greeting:
    name: str
    times: int = 1


async def run_what_node_added(node: GraphileWorker, database: Database, url: str) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await node.run(
        url,
        "add.mjs",
        [
            ["greet", {"name": "late"}, {"priority": 5}],
            ["greet", {"name": "soon", "times": 2}, {"priority": -5}],
            ["greet", {"name": "first version"}, {"jobKey": "greeting"}],
            ["greet", {"name": "second version"}, {"jobKey": "greeting"}],
            ["greet", {"name": "queued"}, {"queueName": "serial"}],
            ["greet", {"name": "flagged"}, {"flags": ["slow", "big"]}],
            ["greet", {"name": "tomorrow"}, {"runAt": tomorrow.isoformat()}],
            ["greet", {"name": 7}, {"maxAttempts": 1, "queueName": "broken"}],
            ["another", {}, None],
        ],
    )
    tasks = TaskRegistry()
    greetings: list[Greeting] = []

    @tasks.task("greet")
    async def greet(greeting: Greeting) -> None:
        greetings.append(greeting)

    report = await Worker(database, tasks, WorkerOptions(concurrency=1, forbidden_flags=("big",))).run_once()

    assert greetings == [
        Greeting(name="soon", times=2),
        Greeting(name="second version"),
        Greeting(name="queued"),
        Greeting(name="late"),
    ]
    assert (report.completed, report.failed, report.returned, report.lost) == (4, 1, 0, 0)
    left = await database.fetch("""
        select task_identifier, queue_name, attempts, last_error, run_at, flags::text as flags
        from graphile_worker.jobs
        where locked_at is null
        order by id
    """)
    flagged, later, broken, another = left
    assert (flagged["attempts"], flagged["flags"]) == (0, '{"big": true, "slow": true}')
    assert abs(later["run_at"] - tomorrow) < timedelta(milliseconds=1)  # Node's clock knows no finer
    assert (broken["queue_name"], broken["attempts"]) == ("broken", 1)
    assert "name" in broken["last_error"]
    assert another["task_identifier"] == "another"
