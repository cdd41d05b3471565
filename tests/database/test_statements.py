"""Every SQL statement of the package is understood by the server, against the schema as it is installed."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Iterator

import attrs
import pytest

from trio_graphile import Connection, Job, _database, testing
from trio_graphile._database import changes, dead_jobs, inspection
from trio_graphile._database.adding import one
from trio_graphile._database.claiming import claims
from trio_graphile._database.claiming.conditions import conditions_of
from trio_graphile._database.search import read
from trio_graphile._database.statement import Statement, quote_identifier
from trio_graphile._model.bounds import ANY_JOB

LONGEST_KEPT = 15 * 1024
"""What asyncpg keeps prepared in a session, unless it is told otherwise (`max_cacheable_statement_size`)."""


def statements() -> Iterator[object]:
    packages = (_database, testing)
    modules = (pkgutil.walk_packages(package.__path__, f"{package.__name__}.") for package in packages)
    for module in itertools.chain.from_iterable(modules):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Statement):
                yield pytest.param(value, id=f"{module.name.rpartition('_database.')[2]}.{name}")


@pytest.mark.parametrize("statement", list(statements()))
async def test_a_statement_can_be_prepared(connection: Connection, statement: Statement) -> None:
    sql = statement.for_schema(quote_identifier("graphile_worker"))
    if not sql.lstrip().startswith(("select", "with", "insert", "update", "delete")):
        return  # utility statements cannot be
    await connection.execute(f"prepare probe as {sql}")


@pytest.mark.parametrize("statement", list(statements()))
def test_a_statement_is_short_enough_to_stay_prepared(statement: Statement) -> None:
    """With the longest name that a schema can have. A claim that is planned anew costs four times as much."""
    assert len(statement.for_schema(quote_identifier("s" * 63))) <= LONGEST_KEPT


async def test_rows_of_jobs_begin_with_the_same_columns(connection: Connection) -> None:
    """They are read by position, and the columns after them by name."""
    await connection.execute(one.ADD_JOB, "a", "{}", *[None] * 7)
    job_id = await connection.fetch_value("select id from graphile_worker._private_jobs")
    columns = {field.name for field in attrs.fields(Job)} - {"task_identifier"} | {"task"}
    first = None
    for statement, arguments in (
        (one.ADD_JOB, ["a", "{}", None, None, None, "k", None, ["flag"], "replace"]),
        (changes.REMOVE_JOB, ["k"]),
        (inspection.GET_LISTED, [[job_id]]),
        (read.READ_JOBS, [[job_id]]),
        (read.READ_ESCAPED, [[job_id]]),
        (dead_jobs.JOBS_OF_DEAD, [[job_id]]),
        (claims.GET_JOBS, ["worker", ["a"], 1, *conditions_of(ANY_JOB, None), 1, None, None]),
    ):
        [row] = await connection.fetch(statement, *arguments)
        begins = list(row.keys())[: len(columns)]
        assert set(begins) == columns
        assert begins == (first := first or begins)
