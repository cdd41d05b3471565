"""What add_job and add_jobs refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tests.database.functions.calls import Spec, add_job, add_jobs, jobs, spec
from tests.database.functions.states import (
    EVEN_LATER,
    LATER,
    last_values,
)
from tests.database.sessions import heard
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed

REFUSED = [
    pytest.param({"identifier": None}, "23502", None, id="no identifier"),
    pytest.param({"identifier": "x" * 129}, "23514", "tasks_identifier_check", id="identifier"),
    pytest.param({"queue_name": "x" * 129}, "23514", "job_queues_queue_name_check", id="queue"),
    pytest.param({"job_key": ""}, "23514", "jobs_key_check", id="empty key"),
    pytest.param({"job_key": "x" * 513}, "23514", "jobs_key_check", id="long key"),
    pytest.param({"max_attempts": 0}, "23514", "jobs_max_attempts_check", id="max_attempts"),
    pytest.param({"max_attempts": 32768}, "22003", None, id="max_attempts over smallint"),
    pytest.param({"priority": -32769}, "22003", None, id="priority under smallint"),
    pytest.param({"flags": ["a", None]}, "22023", None, id="a null among the flags"),
]


@pytest.mark.parametrize("mode", ["replace", "preserve_run_at", "unsafe_dedupe"])
@pytest.mark.parametrize(("options", "sqlstate", "constraint"), REFUSED)
async def test_add_job_refuses_what_the_table_cannot_hold(
    database: Database, mode: str, options: dict[str, Any], sqlstate: str, constraint: str | None
) -> None:
    with pytest.raises(StatementFailed) as caught:
        await add_job(database, **{"job_key_mode": mode} | options)
    assert (caught.value.sqlstate, caught.value.constraint) == (sqlstate, constraint)
    assert await jobs(database) == []
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 0


@pytest.mark.parametrize(("options", "sqlstate", "constraint"), REFUSED)
@pytest.mark.parametrize("others", [[], [spec()], [spec(job_key="other")]], ids=["alone", "unkeyed", "keyed"])
async def test_add_jobs_refuses_what_the_table_cannot_hold(
    database: Database, others: list[Spec], options: dict[str, Any], sqlstate: str, constraint: str | None
) -> None:
    with pytest.raises(StatementFailed) as caught:
        await add_jobs(database, *others, spec(**options))
    assert (caught.value.sqlstate, caught.value.constraint) == (sqlstate, constraint)
    assert await jobs(database) == []


async def test_a_missing_identifier_is_told_by_the_column(database: Database) -> None:
    for specs in ([None], [spec(), None]):
        with pytest.raises(StatementFailed, match='"identifier" of relation "_private_tasks"') as caught:
            await add_jobs(database, *specs)
        assert caught.value.sqlstate == "23502"


async def test_constraints_hold_for_what_is_given_even_if_nothing_is_added(database: Database) -> None:
    await add_job(database, job_key="k")
    with pytest.raises(StatementFailed) as caught:
        await add_job(database, job_key="k", job_key_mode="unsafe_dedupe", max_attempts=0)
    assert caught.value.constraint == "jobs_max_attempts_check"


async def test_names_may_be_empty_and_as_long_as_the_limit_in_characters(database: Database) -> None:
    await add_job(database, "", queue_name="")
    await add_job(database, "ß" * 128, queue_name="ß" * 128, job_key="ß" * 512)
    assert len(await jobs(database)) == 2
    assert await database.fetch_value("select count(*) from graphile_worker.jobs where queue_name = ''") == 1


async def test_an_unknown_mode_matters_only_with_a_key(database: Database) -> None:
    await add_job(database, job_key_mode="nonsense")
    with pytest.raises(
        StatementFailed, match="expected 'replace', 'preserve_run_at' or 'unsafe_dedupe'"
    ) as caught:
        await add_job(database, job_key="k", job_key_mode="nonsense")
    assert caught.value.sqlstate == "GWBKM"
    assert len(await jobs(database)) == 1


async def test_no_mode_is_replace(database: Database) -> None:
    await add_job(database, job_key="k", run_at=LATER)
    again = await add_job(database, job_key="k", job_key_mode=None, run_at=EVEN_LATER)
    assert (again["revision"], again["run_at"]) == (1, EVEN_LATER)


@pytest.mark.parametrize("others", [[], [spec("b", queue_name="q"), spec(job_key="other")]])
async def test_one_key_twice_in_a_call_is_an_error_before_anything_is_written(
    database: Database, others: list[Spec]
) -> None:
    before = await last_values(database)
    async with heard(database, "jobs:insert") as payloads:
        with pytest.raises(StatementFailed, match='"the key" stands twice') as caught:
            await add_jobs(database, spec(job_key="the key"), *others, spec(job_key="the key"))
    assert caught.value.sqlstate == "21000"
    assert payloads == []
    assert await last_values(database) == before
