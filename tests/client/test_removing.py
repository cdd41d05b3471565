"""Removing jobs by their keys."""

from __future__ import annotations

import pytest

from tests.client.tasks import ADA, KEYED, send_welcome
from tests.client.workers import lock
from tests.support.tables import stored
from trio_graphile import Client, Database, JobSpec, OptionInvalid


async def test_a_waiting_job_is_removed_by_its_key(client: Client, database: Database) -> None:
    job = await client.add_job(send_welcome, ADA, JobSpec(job_key="k", queue_name="mail"))
    assert await client.remove_job("k") == job
    assert await stored(database) == []
    assert await client.remove_job("k") is None


async def test_a_running_job_is_detached_instead(client: Client, database: Database) -> None:
    job = await client.add_job(send_welcome, ADA, KEYED)
    await lock(database)
    detached = await client.remove_job("k")
    assert detached is not None
    assert (detached.id, detached.key, detached.attempts) == (job.id, None, job.max_attempts)
    assert detached.locked_by == "somebody"
    assert [job_id for job_id, _, _ in await stored(database)] == [job.id]


async def test_a_job_whose_worker_is_long_gone_is_removed_and_its_queue_freed(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA, JobSpec(job_key="k", queue_name="mail"))
    await lock(database, age="5 hours")
    removed = await client.remove_job("k")
    assert removed is not None
    assert removed.key == "k"
    assert await stored(database) == []
    await client.add_job(send_welcome, ADA, JobSpec(queue_name="mail"))
    assert len(await lock(database, "another")) == 1


async def test_a_key_that_is_not_text_is_refused(client: Client) -> None:
    with pytest.raises(OptionInvalid, match="job_key"):
        await client.remove_job(5)  # type: ignore[arg-type]
