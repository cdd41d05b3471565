"""Every SQL statement of the package is understood by the server, against the schema as it is installed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import attrs
import pytest

from trio_graphile import Connection, Job, _database
from trio_graphile._database import claims, manage
from trio_graphile._database.statement import Statement, quote_identifier
from trio_graphile._model.jobs import COLUMNS_IN_SECONDS


def statements() -> Iterator[object]:
    for module in pkgutil.walk_packages(_database.__path__, f"{_database.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Statement):
                yield pytest.param(value, id=f"{module.name.rpartition('_database.')[2]}.{name}")


@pytest.mark.parametrize("statement", list(statements()))
async def test_a_statement_can_be_prepared(connection: Connection, statement: Statement) -> None:
    sql = statement.for_schema(quote_identifier("graphile_worker"))
    if not sql.lstrip().startswith(("select", "with", "insert", "update", "delete")):
        return  # utility statements cannot be
    await connection.execute(f"prepare probe as {sql}")


async def test_rows_of_jobs_have_the_columns_of_a_job_in_their_order(connection: Connection) -> None:
    """`job_of` and `job_of_seconds` go by position alone."""
    nothing = [None] * 7
    columns = [field.name for field in attrs.fields(Job)]
    for statement, arguments in (
        (manage.ADD_JOB, ["a", "{}", None, None, None, "k", None, ["flag"], "replace"]),
        (manage.ADD_JOB, ["a", "{}", *nothing]),
        (manage.REMOVE_JOB, ["k"]),
    ):
        [row, *_] = await connection.fetch(statement, *arguments)
        assert list(row.keys()) == columns
    await connection.execute(manage.ADD_JOB, "a", "{}", *nothing)
    [row] = await connection.fetch(claims.GET_JOBS, "worker", ["a"], 1, *[None] * 5, 1)
    assert tuple(row.keys()) == COLUMNS_IN_SECONDS
