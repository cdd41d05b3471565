"""Many jobs in one call."""

from __future__ import annotations

import pytest

from tests.database.functions.calls import Spec, add_job, add_jobs, call, jobs, spec
from tests.database.functions.states import (
    exhaust,
    last_values,
    lock,
)
from tests.database.sessions import heard
from trio_graphile._database.database import Database


@pytest.mark.parametrize("empty", [None, []], ids=["null", "none"])
async def test_adding_nothing_adds_nothing_and_notifies_with_nothing(
    database: Database, empty: list[Spec] | None
) -> None:
    async with heard(database, "jobs:insert") as payloads:
        assert await call(database, "add_jobs", empty) == []
    assert payloads == [""]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("count", [5, 300])
async def test_rows_and_ids_come_in_the_order_of_the_specs(
    database: Database, count: int, *, keyed: bool, analyzed: bool
) -> None:
    if analyzed:
        await add_jobs(database, *(spec(f"t{n % 7}", queue_name=f"q{n % 5}") for n in range(50)))
        await database.execute("analyze graphile_worker._private_jobs, graphile_worker._private_tasks")
    rows = await add_jobs(
        database,
        *(
            spec(
                f"t{n % 7}",
                payload=str(n),
                queue_name=f"q{-n % 5}" if n % 3 else None,
                job_key=f"key {-n % 11} {n}" if keyed and n % 4 else None,
                priority=-n % 4,
            )
            for n in range(count)
        ),
    )
    assert [row["payload"] for row in rows] == [str(n) for n in range(count)]
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids)
    assert ids == list(range(ids[0], ids[0] + count))


async def test_free_running_exhausted_and_new_keys_in_one_call(database: Database) -> None:
    free, running, exhausted = [await add_job(database, job_key=k) for k in ("free", "running", "dead")]
    await lock(database, running["id"])
    await exhaust(database, exhausted["id"])
    names = ["new", "dead", "free", "running"]
    rows = await add_jobs(database, spec(), *(spec(payload=f'"{k}"', job_key=k) for k in names))
    assert [row["key"] for row in rows] == [None, *names]
    assert [row["revision"] for row in rows] == [0, 0, 0, 1, 0]
    assert rows[3]["id"] == free["id"]
    new_ids = [row["id"] for row in rows if row["id"] != free["id"]]
    assert new_ids == sorted(new_ids)
    left = {row["id"]: row for row in await jobs(database)}
    assert len(left) == 7
    for old in (running, exhausted):
        assert (left[old["id"]]["key"], left[old["id"]]["attempts"]) == (None, 25)


async def test_names_that_exist_consume_no_id(database: Database) -> None:
    async def add_by_every_way() -> None:
        await add_job(database, "a", queue_name="q")
        await add_job(database, "a", queue_name="q", job_key="k")
        await add_job(database, "a", queue_name="q", job_key="k", job_key_mode="unsafe_dedupe")
        await add_jobs(database, spec("a", queue_name="q"), spec("b", queue_name="r"))
        await add_jobs(database, spec("a", queue_name="q", job_key="l"), spec("b"))

    await add_by_every_way()
    before = await last_values(database)
    await add_by_every_way()
    after = await last_values(database)
    assert (before["tasks_id_seq"], before["job_queues_id_seq"]) == (2, 2)
    assert (after["tasks_id_seq"], after["job_queues_id_seq"]) == (2, 2)


async def test_many_thousand_keys_in_one_call(database: Database) -> None:
    add = """
        select count(*)
        from graphile_worker.add_jobs(array(
          select row('a', null, null, null, null, 'key ' || n, null, null)::graphile_worker.job_spec
          from generate_series(1, 20000) as n
        ))
    """
    for _ in range(2):
        assert await database.fetch_value(add) == 20_000
    assert (
        await database.fetch_value("select count(*) from graphile_worker.jobs where revision = 1") == 20_000
    )
