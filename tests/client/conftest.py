"""The fixtures of these tests."""

from __future__ import annotations

import pytest

from tests.client.five import Five
from tests.client.tasks import tasks, tick
from tests.client.workers import lock
from trio_graphile import Client, Database, JobSpec


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database, tasks)


@pytest.fixture
async def five(client: Client, database: Database) -> Five:
    locked = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database)
    failed, regular_1, regular_2, untouched = await client.add_jobs(
        [(tick, None, JobSpec(max_attempts=n)) for n in (1, 2, 3, 4)]
    )
    await database.execute(
        """
        update graphile_worker._private_jobs
        set attempts = max_attempts, last_error = 'oh'
        where id = $1::bigint
        """,
        failed.id,
    )
    return Five(failed, regular_1, regular_2, locked, untouched)
