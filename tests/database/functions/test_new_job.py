"""How a new job is stored."""

from __future__ import annotations

import json

import pytest

from tests.database.functions.calls import Spec, add_job, add_jobs, jobs, rows_of, spec
from tests.database.functions.states import (
    LATER,
)
from trio_graphile._database.database import Database


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("function", ["add_job", "add_jobs", "add_jobs of two"])
async def test_a_bare_job_gets_the_defaults(database: Database, function: str, key: str | None) -> None:
    if function == "add_job":
        row = await add_job(database, job_key=key)
    else:
        count = 1 if function == "add_jobs" else 2
        row = (await add_jobs(database, spec(job_key=key), *[spec()] * (count - 1)))[0]
    assert row == (await jobs(database))[0]
    now = row["created_at"]
    assert row == {
        "id": 1,
        "job_queue_id": None,
        "task_id": 1,
        "payload": "{}",
        "priority": 0,
        "run_at": now,
        "attempts": 0,
        "max_attempts": 25,
        "last_error": None,
        "created_at": now,
        "updated_at": now,
        "key": key,
        "locked_at": None,
        "locked_by": None,
        "revision": 0,
        "flags": None,
        "is_available": True,
    }


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("function", ["add_job", "add_jobs", "add_jobs of two"])
async def test_everything_given_is_stored(database: Database, function: str, key: str | None) -> None:
    options: Spec = {
        "payload": '{"b": 1,  "a": [1e3, "\\u0000"], "b": null }',
        "queue_name": "q",
        "run_at": LATER,
        "max_attempts": 3,
        "job_key": key,
        "priority": -7,
        "flags": ["y", "x", "y"],
    }
    if function == "add_job":
        row = await add_job(database, "a", **options)
    else:
        count = 1 if function == "add_jobs" else 2
        row = (await add_jobs(database, spec("a", **options), *[spec()] * (count - 1)))[0]
    assert row["payload"] == '{"b": 1,  "a": [1e3, "\\u0000"], "b": null }'
    assert (row["run_at"], row["max_attempts"], row["priority"]) == (LATER, 3, -7)
    assert json.loads(row["flags"]) == {"x": True, "y": True}
    shown = await database.fetch_row("select * from graphile_worker.jobs where priority = -7")
    assert shown is not None
    assert (shown["queue_name"], shown["task_identifier"]) == ("q", "a")


async def test_a_json_null_is_a_payload_and_no_flags_are_no_flags(database: Database) -> None:
    row = await add_job(database, payload="null", flags=[])
    assert (row["payload"], row["flags"]) == ("null", None)
    rows = await add_jobs(database, spec(payload="null", flags=[]), spec())
    assert [(row["payload"], row["flags"]) for row in rows] == [("null", None), ("{}", None)]


async def test_populating_specs_from_json_makes_null_of_null(database: Database) -> None:
    """That is how the workers of other languages call it."""
    [row] = await rows_of(
        database,
        """add_jobs(array(
          select json_populate_recordset(
            null::graphile_worker.job_spec,
            '[{"identifier": "a", "payload": null, "flags": ["f"]}]'
          )
        ))""",
    )
    assert (row["payload"], row["flags"]) == ("{}", '{"f": true}')
