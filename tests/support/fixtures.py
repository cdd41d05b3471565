"""The fixtures of tests that run whole workers: a folder's `conftest.py` imports them."""

from __future__ import annotations

import pytest

from tests.support.handlers import Handlers
from tests.support.tables import Table
from trio_graphile import Client, Database

__all__ = ["client", "handlers", "table"]


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def client(database: Database, handlers: Handlers) -> Client:
    return Client(database, handlers.tasks)


@pytest.fixture
def table(database: Database) -> Table:
    return Table(database)
