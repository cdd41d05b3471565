"""The functions that know workers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.database.functions.calls import Row, add_job, jobs
from tests.database.functions.states import (
    LATER,
    differences,
    lock,
)
from tests.database.sessions import heard
from tests.support.tables import locked_queues
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed


async def test_force_unlock_frees_jobs_and_queues_of_these_workers_and_changes_nothing_else(
    database: Database,
) -> None:
    for n in range(3):
        job = await add_job(database, queue_name=f"q{n}")
        await lock(database, job["id"], worker=f"w{n}")
    before = await jobs(database)
    unlock = "select graphile_worker.force_unlock_workers($1)"
    for nobody in (None, [], ["unknown"]):
        await database.execute(unlock, nobody)
    assert await jobs(database) == before
    await database.execute(unlock, ["w1", "w2"])
    after = await jobs(database)
    assert after[0] == before[0]
    for old, new in zip(before[1:], after[1:], strict=True):
        assert new == old | {"locked_at": None, "locked_by": None, "is_available": True}
    assert await locked_queues(database) == {"q0": "w0"}


async def test_a_heartbeat_registers_and_renews(database: Database) -> None:
    async def beat(worker: str | None, *metadata: str) -> Row:
        arguments = "$1, $2::text::json" if metadata else "$1"
        await database.execute(f"select graphile_worker.worker_heartbeat({arguments})", worker, *metadata)
        row = await database.fetch_row(
            "select id, last_heartbeat_at, started_at, metadata::text from graphile_worker._private_workers"
        )
        assert row is not None
        return dict(row)

    first = await beat("w", '{"a": 1}')
    assert first["started_at"] == first["last_heartbeat_at"]
    second = await beat("w")
    assert set(differences(first, second)) == {"last_heartbeat_at"}
    third = await beat("w", "null")
    assert third["metadata"] == "null"
    assert third["started_at"] == first["started_at"]
    with pytest.raises(StatementFailed) as caught:
        await beat(None)
    assert caught.value.sqlstate == "23502"
    await database.execute("select graphile_worker.worker_deregister('unknown')")
    assert await database.fetch_value("select count(*) from graphile_worker._private_workers") == 1
    await database.execute("select graphile_worker.worker_deregister('w')")
    assert await database.fetch_value("select count(*) from graphile_worker._private_workers") == 0


async def test_workers_are_stale_when_silent_and_orphaned_when_unregistered(database: Database) -> None:
    await database.execute("""
        insert into graphile_worker._private_workers (id, last_heartbeat_at)
        values ('silent', now() - interval '2 minutes'), ('alive', now())
    """)
    for worker, age in [("silent", "1 hour"), ("alive", "1 hour"), ("gone", "1 hour"), ("new", "1 second")]:
        for _ in range(2):
            job = await add_job(database)
            await lock(database, job["id"], age=age, worker=worker)
    await database.execute("""
        insert into graphile_worker._private_job_queues (queue_name, locked_at, locked_by)
        values ('q', now() - interval '1 hour', 'gone with a queue')
    """)

    async def listed(function: str, threshold: str) -> list[str]:
        rows = await database.fetch(
            f"select worker_id from graphile_worker.{function}($1::text::interval)", threshold
        )
        return sorted(row["worker_id"] for row in rows)

    assert await listed("list_stale_workers", "1 minute") == ["silent"]
    assert await listed("list_stale_workers", "3 minutes") == []
    assert await listed("list_orphan_locked_workers", "1 minute") == ["gone", "gone with a queue"]
    assert await listed("list_orphan_locked_workers", "0") == ["gone", "gone with a queue", "new"]
    await database.execute("select graphile_worker.delete_stale_workers('{silent,unknown}')")
    assert await database.fetch_value("select id from graphile_worker._private_workers") == "alive"


async def test_the_jobs_of_a_dead_worker_get_their_attempt_back(database: Database) -> None:
    for n, run_at in enumerate([None, LATER, None]):
        job = await add_job(database, queue_name=f"q{n}", run_at=run_at)
        await lock(database, job["id"], worker="dead" if n < 2 else "alive")
    await database.execute("update graphile_worker._private_jobs set attempts = 0 where id = 2")
    before = await jobs(database)
    recover = "select graphile_worker.recover_dead_worker_jobs"
    async with heard(database, "jobs:insert") as payloads:
        assert await database.fetch_value(f"{recover}($1)", None) == 0
        delay = timedelta(seconds=30)
        assert await database.fetch_value(f"{recover}($1, $2)", ["dead", "unknown"], delay) == 2
    assert payloads == []
    soon, late, alive = await jobs(database)
    assert alive == before[2]
    assert await locked_queues(database) == {"q2": "alive"}
    for old, new in zip(before[:2], (soon, late), strict=True):
        assert (new["attempts"], new["is_available"]) == (0, True)
        assert new["last_error"] == "Job recovered after worker interruption"
        assert new["updated_at"] > old["updated_at"]
    assert soon["run_at"] == soon["updated_at"] + timedelta(seconds=30)
    assert late["run_at"] == LATER


async def test_a_job_that_was_replaced_while_its_worker_died_does_not_run_again(database: Database) -> None:
    job = await add_job(database, job_key="k")
    await lock(database, job["id"])
    await add_job(database, job_key="k")
    await database.execute("select graphile_worker.recover_dead_worker_jobs('{w}')")
    old, new = await jobs(database)
    assert (old["attempts"], old["is_available"], old["locked_by"]) == (25, False, None)
    assert new["is_available"]
