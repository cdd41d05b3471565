"""Adding under a key that a job has."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.database.functions.calls import add_job, add_jobs, call, jobs, spec
from tests.database.functions.states import (
    EVEN_LATER,
    EVERY_WAY,
    LATER,
    add_again,
    differences,
    keyed_job,
    lock,
)
from tests.database.sessions import heard
from trio_graphile._database.database import Database


@pytest.mark.parametrize("through", EVERY_WAY)
@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
@pytest.mark.parametrize("state", ["new", "tried"])
async def test_a_waiting_job_is_overwritten_whole(
    database: Database, state: str, mode: str, through: str
) -> None:
    """What is not given goes back to its default; id and creation stay.

    So does the time, if that is wished and the job was never tried.
    """
    before = await keyed_job(database, state)
    after = await add_again(database, mode, through=through)
    assert after == (await jobs(database))[0]
    kept_time = mode == "preserve_run_at" and state == "new"
    assert after == before | {
        "task_id": 2,
        "job_queue_id": None,
        "payload": '{"new": 1}',
        "run_at": LATER if kept_time else EVEN_LATER,
        "max_attempts": 25,
        "priority": 0,
        "flags": None,
        "attempts": 0,
        "last_error": None,
        "revision": 1,
        "updated_at": after["updated_at"],
    }
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize("through", EVERY_WAY)
@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
@pytest.mark.parametrize("state", ["dead", "running", "stuck"])
async def test_a_dead_or_running_job_is_detached_and_a_new_one_added(
    database: Database, state: str, mode: str, through: str
) -> None:
    before = await keyed_job(database, state)
    added = await add_again(database, mode, through=through)
    old, new, *_ = await jobs(database)
    assert new == added
    assert new["id"] != old["id"]
    assert (new["key"], new["revision"], new["run_at"], new["payload"]) == ("k", 0, EVEN_LATER, '{"new": 1}')
    assert set(differences(before, old)) <= {"key", "attempts", "updated_at"}
    assert (old["key"], old["attempts"]) == (None, 3)
    assert old["locked_at"] is None or old["updated_at"] >= old["locked_at"]
    assert old["updated_at"] > before["updated_at"]


@pytest.mark.parametrize("state", ["new", "tried", "dead", "running", "stuck"])
async def test_unsafe_dedupe_only_counts(database: Database, state: str) -> None:
    before = await keyed_job(database, state)
    async with heard(database, "jobs:insert") as payloads:
        after = await add_again(database, "unsafe_dedupe", through="add_job")
    assert payloads == []
    [stored] = await jobs(database)
    assert after == stored
    assert set(differences(before, after)) == {"revision", "updated_at"}
    assert after["revision"] == 1
    # The names are registered all the same.
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 2


async def test_modes_in_turn(database: Database) -> None:
    seen = []
    for n, mode in enumerate(["replace", "preserve_run_at", "unsafe_dedupe", "replace"]):
        row = await add_job(
            database, payload=str(n), run_at=LATER + timedelta(days=n), job_key="k", job_key_mode=mode
        )
        seen.append((row["revision"], row["payload"], (row["run_at"] - LATER).days))
    assert seen == [(0, "0", 0), (1, "1", 0), (2, "1", 0), (3, "3", 3)]


@pytest.mark.parametrize("function", ["add_job", "add_jobs", "remove_job"])
async def test_a_detached_job_is_not_older_than_its_claim(database: Database, function: str) -> None:
    """Our now() is that of our transaction, which may have begun before the worker's claim."""
    job = await add_job(database, job_key="k")
    await lock(database, job["id"], age="-10 seconds")
    match function:
        case "add_job":
            await add_job(database, job_key="k")
        case "add_jobs":
            await add_jobs(database, spec(job_key="k"), spec())
        case _:
            await call(database, "remove_job", "k")
    [old, *_] = await jobs(database)
    assert (old["key"], old["updated_at"]) == (None, old["locked_at"])
