"""Adding an array to the array of a job."""

from __future__ import annotations

import pytest

from tests.database.functions.calls import add_job, add_jobs, jobs, spec
from tests.database.functions.states import (
    EVERY_WAY,
    lock,
)
from trio_graphile._database.database import Database


@pytest.mark.parametrize("through", EVERY_WAY)
@pytest.mark.parametrize(
    ("stored", "added", "merged"),
    [
        ("[1, 2]", "[2, 3]", "[1, 2, 2, 3]"),
        ("[]", "[1]", "[1]"),
        ("[1]", "[]", "[1]"),
        (" [ ] ", "[\t]", "[\t]"),
        (" [1\n]\r\n", "\t[ [2], []]", "[1\n,  [2], []]"),
        ("[[1]]", "[[[2]]]", "[[1], [[2]]]"),
        ('["]", "["]', '["["]', '["]", "[", "["]'),
        (
            '[{"b":1, "a":1e3, "b": 2.50}]',
            '[{"z":"\\u0000", "a":-0}]',
            '[{"b":1, "a":1e3, "b": 2.50}, {"z":"\\u0000", "a":-0}]',
        ),
        ('{"a": 1}', "[1]", "[1]"),
        ("[1]", '{"a":  1}', '{"a":  1}'),
        ("[1]", "null", "null"),
        ("null", "[1]", "[1]"),
    ],
)
async def test_two_arrays_become_one_byte_for_byte_and_all_else_is_replaced(
    database: Database, through: str, stored: str, added: str, merged: str
) -> None:
    await add_job(database, payload=stored, job_key="k")
    if through == "add_job":
        await add_job(database, payload=added, job_key="k")
    else:
        others = [spec()] if through == "add_jobs of two" else []
        await add_jobs(database, spec(payload=added, job_key="k"), *others)
    [row, *_] = await jobs(database)
    assert (row["payload"].strip(), row["revision"]) == (merged.strip(), 1)
    assert row["is_available"]


async def test_no_payload_replaces_an_array_and_detaching_does_not_merge(database: Database) -> None:
    await add_job(database, payload="[1]", job_key="k")
    assert (await add_job(database, job_key="k"))["payload"] == "{}"
    job = await add_job(database, payload="[2]", job_key="k")
    await lock(database, job["id"])
    assert (await add_job(database, payload="[3]", job_key="k"))["payload"] == "[3]"
