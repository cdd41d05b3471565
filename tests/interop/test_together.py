from __future__ import annotations

import json

import pytest
import trio

from tests.interop.graphile_worker import GraphileWorker
from tests.interop.runs import recorded_runs, tasks
from trio_graphile import Client, Database, JobSpec, Worker, WorkerOptions, open_database

pytestmark = pytest.mark.interop

NEVER = 600.0
"""A poll interval, in seconds, that no test lives to see: whoever runs a job then was woken."""
QUEUES = ("red", "green", "blue", None, None)


async def test_a_queue_is_shared(node: GraphileWorker, database: Database, database_url: str) -> None:
    """Each job runs once, on either side, and those of a named queue one after the other."""
    count = 150
    jobs = [(QUEUES[number % len(QUEUES)], {"seconds": 0.005}) for number in range(count)]
    async with (
        recorded_runs(database) as runs,
        node.worker(database_url, concurrency=4, pollInterval=200),
        trio.open_nursery() as nursery,
    ):
        worker = Worker(database, tasks, WorkerOptions(concurrency=4, poll_interval=0.2))
        await nursery.start(worker.run)
        await Client(database).add_raw_jobs(
            ("record", {"queue_name": queue, **payload}, JobSpec(queue_name=queue)) for queue, payload in jobs
        )
        printed = await node.run(
            database_url,
            "add.mjs",
            [["record", {"queue_name": queue, **payload}, {"queueName": queue}] for queue, payload in jobs],
        )
        with trio.fail_after(60):
            await runs.wait_finished(2 * count)
        worker.stop()

        assert len(json.loads(printed.stdout)) == count
        sides = await runs.sides()
        assert len(sides) == 2 * count
        assert {len(ran) for ran in sides.values()} == {1}
        assert {side for ran in sides.values() for side in ran} == {"node", "python"}
        assert await runs.overlapping() == 0
    assert await database.fetch_value("select count(*) from graphile_worker.jobs") == 0
    locked = "select count(*) from graphile_worker._private_job_queues where locked_at is not null"
    assert await database.fetch_value(locked) == 0


async def test_what_we_add_wakes_node(node: GraphileWorker, database: Database, database_url: str) -> None:
    async with recorded_runs(database) as runs, node.worker(database_url, pollInterval=NEVER * 1000):
        client = Client(database)
        for number in range(1, 4):
            await client.add_raw_job("record", {"queue_name": None, "seconds": 0})
            with trio.fail_after(30):
                await runs.wait_finished(number)


async def test_what_node_adds_wakes_us(node: GraphileWorker, database: Database, database_url: str) -> None:
    async with recorded_runs(database) as runs, trio.open_nursery() as nursery:
        worker = Worker(database, tasks, WorkerOptions(concurrency=1, poll_interval=NEVER))
        await nursery.start(worker.run)
        for number in range(1, 4):
            await node.run(database_url, "add.mjs", [["record", {"queue_name": None}, None]])
            with trio.fail_after(30):
                await runs.wait_finished(number)
        worker.stop()


async def test_node_works_on_while_we_take_over_its_schema(
    node: GraphileWorker, empty_database_url: str
) -> None:
    await node.run(empty_database_url, "migrate.mjs")
    async with (
        open_database(empty_database_url) as database,
        recorded_runs(database) as runs,
        node.worker(empty_database_url, pollInterval=NEVER * 1000),
    ):
        await node.run(empty_database_url, "add.mjs", [["record", {"queue_name": None, "seconds": 0}, None]])
        with trio.fail_after(30):
            await runs.wait_finished(1)

        await Client(database).migrate()

        spec = JobSpec(queue_name="ours", job_key="ours")
        await Client(database).add_raw_job("record", {"queue_name": "ours", "seconds": 0}, spec)
        with trio.fail_after(30):
            await runs.wait_finished(2)
