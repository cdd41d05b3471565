"""Adding and changing jobs in the caller's transaction."""

from __future__ import annotations

import pytest
import trio

from tests.client.tasks import ADA, KEYED, send_welcome, tick
from tests.support.tables import stored
from trio_graphile import Client, Connection, Database, DuplicateJobKey, JobKeyMode, JobSpec


async def test_what_is_done_in_a_transaction_that_rolls_back_was_never_done(
    client: Client, database: Database
) -> None:
    waiting = await client.add_raw_job("t", None, JobSpec(job_key="old"))
    with trio.CancelScope() as scope:  # noqa: TID251  # cancelled by the body itself
        async with database.transaction() as connection:
            inside = client.using(connection)
            await inside.add_job(send_welcome, ADA)
            await inside.add_jobs([(send_welcome, ADA, JobSpec(job_key="a")), (send_welcome, ADA, JobSpec())])
            await inside.remove_job("old")
            scope.cancel()
    assert [job_id for job_id, _, _ in await stored(database)] == [waiting.id]


async def test_what_is_done_in_a_transaction_is_there_once_it_commits(
    client: Client, database: Database
) -> None:
    waiting = await client.add_raw_job("t")
    async with database.transaction() as connection:
        inside = client.using(connection)
        added = await inside.add_jobs(
            [
                (send_welcome, ADA, JobSpec(job_key="a")),
                (send_welcome, ADA, JobSpec(job_key="b", job_key_mode=JobKeyMode.PRESERVE_RUN_AT)),
            ]
        )
        await inside.complete_jobs([waiting.id])
        assert [job_id for job_id, _, _ in await stored(database)] == [waiting.id]
    assert [job_id for job_id, _, _ in await stored(database)] == [job.id for job in added]


async def test_a_client_for_a_transaction_does_not_maintain_the_schema(
    client: Client, connection: Connection
) -> None:
    inside = client.using(connection)
    assert not hasattr(inside, "migrate")
    assert not hasattr(inside, "cleanup")
    assert not hasattr(inside, "sweep_stale_workers")


async def test_ten_thousand_jobs_of_a_transaction_that_rolls_back_leave_nothing(
    client: Client, database: Database
) -> None:
    async def add_and_fail() -> None:
        async with database.transaction() as connection:
            added = await client.using(connection).add_jobs([(tick, None)] * 10_000)
            raise ArithmeticError(len(added))

    with pytest.raises(ArithmeticError, match=r"^10000$"):
        await add_and_fail()
    assert await stored(database) == []


async def test_a_transaction_survives_jobs_that_were_refused_on_our_side(
    client: Client, connection: Connection
) -> None:
    async with connection.transaction():
        inside = client.using(connection)
        with pytest.raises(DuplicateJobKey):
            await inside.add_jobs([(tick, None, KEYED), (tick, None, KEYED)])
        await inside.add_job(tick, None)


async def test_only_a_connection_can_be_used(client: Client) -> None:
    with pytest.raises(TypeError, match="asyncpg or trio_graphile connection"):
        client.using("postgresql://localhost/app")
