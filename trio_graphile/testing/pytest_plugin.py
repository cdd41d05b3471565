"""The pytest plugin: a server for the session, and for each test a database with the queue's schema.

pytest loads it by itself, so it imports nothing but pytest until a fixture is asked for. It works with
pytest-trio, and with anyio's plugin where the backend is Trio.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trio_graphile import Client, Database, DatabaseOptions
    from trio_graphile.testing import TemplateDatabases


class HookSpecs:
    """The hooks that a `conftest.py` may have."""

    @pytest.hookspec
    def pytest_trio_graphile_prepare(self, url: str) -> object:
        """Make the application's own tables in the template, of which every test gets a copy.

        Called once in each process, async or not, with the URL of a database that has the schema of the
        queue. A function that is not async runs in a thread, so it may start an event loop of its own, as
        migration tools do.
        """


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Tell pytest which hooks there are."""
    pluginmanager.add_hookspecs(HookSpecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell pytest which options there are."""
    parser.getgroup("trio_graphile").addoption(
        "--trio-graphile-url",
        metavar="URL",
        help="a PostgreSQL for the tests, by a user who may create databases there"
        " (default: $DATABASE_URL, else an embedded one)",
    )


@pytest.fixture(scope="session")
def trio_graphile_database_options() -> DatabaseOptions:
    """Say how databases are opened, and what the queue's schema is called. Override it to change that."""
    from trio_graphile import DatabaseOptions

    return DatabaseOptions()


@pytest.fixture(scope="session")
def trio_graphile_server(
    pytestconfig: pytest.Config, trio_graphile_database_options: DatabaseOptions
) -> Iterator[TemplateDatabases]:
    """Lend the server of this session: `clone` and `empty` make databases there.

    With pytest-xdist each process has an embedded server of its own, or its own template on a server that
    all of them use.
    """
    from trio_graphile.testing._session import template_databases

    url = pytestconfig.getoption("--trio-graphile-url") or os.environ.get("DATABASE_URL")
    prepare = pytestconfig.hook.pytest_trio_graphile_prepare
    with template_databases(url, trio_graphile_database_options, prepare) as databases:
        yield databases


@pytest.fixture
async def trio_graphile_database(
    trio_graphile_server: TemplateDatabases, trio_graphile_database_options: DatabaseOptions
) -> AsyncIterator[Database]:
    """Lend a database of this test's own, with the queue's schema and what the application has added."""
    from trio_graphile import open_database

    async with (
        trio_graphile_server.clone() as url,
        open_database(url, trio_graphile_database_options) as database,
    ):
        yield database


@pytest.fixture
def trio_graphile_client(trio_graphile_database: Database) -> Client:
    """Lend a client of this test's own database."""
    from trio_graphile import Client

    return Client(trio_graphile_database)
