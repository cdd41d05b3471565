"""Who is notified, how often, and of how many jobs."""

from __future__ import annotations

import json

from tests.database.functions.calls import add_job, add_jobs, call, jobs, spec
from tests.database.functions.states import (
    LATER,
)
from tests.database.sessions import heard
from trio_graphile._database.database import Database


async def test_each_call_notifies_once_with_its_count(database: Database) -> None:
    async with heard(database, "jobs:insert") as payloads, database.transaction() as connection:
        for _ in range(3):
            await connection.execute("select graphile_worker.add_job('a')")
        await add_jobs(connection, *[spec()] * 5)
        await add_jobs(connection, spec())
        await connection.execute("select graphile_worker.add_job('a', job_key => 'k')")
        await add_job(connection, job_key="k", run_at=LATER)
        await connection.execute(
            "select graphile_worker.add_job('a', job_key => 'd', job_key_mode => 'unsafe_dedupe')"
        )
        await connection.execute(
            "select graphile_worker.add_job('a', job_key => 'd', job_key_mode => 'unsafe_dedupe')"
        )
        assert payloads == []
    sent = [json.loads(payload) for payload in payloads]
    assert [notification["count"] for notification in sent] == [1, 1, 1, 5, 1, 1, 1, 1]
    assert all(set(notification) == {"r", "count"} for notification in sent)


async def test_what_is_rolled_back_notifies_nobody_and_leaves_nothing(database: Database) -> None:
    async with heard(database, "jobs:insert") as payloads, database.connection() as connection:
        await connection.execute("begin")
        await connection.execute("select graphile_worker.add_job('a', queue_name => 'q')")
        await connection.execute("rollback")
    assert payloads == []
    assert await jobs(database) == []
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 0


async def test_nothing_else_notifies(database: Database) -> None:
    job = await add_job(database)
    async with heard(database, "jobs:insert") as payloads:
        await database.execute("insert into graphile_worker._private_jobs (task_id) values (1)")
        for function in ("reschedule_jobs", "permanently_fail_jobs", "complete_jobs"):
            assert len(await call(database, function, [job["id"]])) == 1
        await database.execute("select graphile_worker.force_unlock_workers('{w}')")
    assert payloads == []
