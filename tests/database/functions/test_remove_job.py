"""Removing a job by its key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.database.functions.calls import add_job, call, jobs
from tests.database.functions.states import (
    differences,
    keyed_job,
)
from tests.database.sessions import heard
from tests.support.tables import locked_queues
from trio_graphile._database.database import Database


def is_nothing(row: Mapping[str, Any]) -> bool:
    return all(value is None for value in row.values())


async def test_removing_without_a_key_or_with_an_unknown_one_does_nothing(database: Database) -> None:
    await add_job(database)
    async with heard(database, "jobs:insert") as payloads:
        for key in (None, "unknown"):
            [row] = await call(database, "remove_job", key)
            assert is_nothing(row)
    assert payloads == []
    assert len(await jobs(database)) == 1


@pytest.mark.parametrize("state", ["new", "tried", "dead", "stuck"])
async def test_a_job_that_nobody_runs_is_removed_and_its_stuck_queue_freed(
    database: Database, state: str
) -> None:
    before = await keyed_job(database, state)
    async with heard(database, "jobs:insert") as payloads:
        assert await call(database, "remove_job", "k") == [before]
    assert [json.loads(payload)["count"] for payload in payloads] == [-1]
    assert await jobs(database) == []
    assert await locked_queues(database) == {}


async def test_a_running_job_is_detached_instead_of_removed(database: Database) -> None:
    before = await keyed_job(database, "running")
    async with heard(database, "jobs:insert") as payloads:
        [after] = await call(database, "remove_job", "k")
    assert payloads == []
    assert [after] == await jobs(database)
    assert set(differences(before, after)) == {"key", "attempts", "updated_at"}
    assert (after["key"], after["attempts"]) == (None, 3)
    assert await locked_queues(database) == {"old": "w"}
