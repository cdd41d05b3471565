"""The fixtures of tests that run whole workers, and of those that do so in network namespaces."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.environments.networks import Lab, open_lab
from tests.support.fixtures import handlers
from trio_graphile import Database, open_database
from trio_graphile.testing import TemplateDatabases

__all__ = ["handlers"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        with open_lab() as lab:
            yield lab
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces, or no interface in them, may be made here: {error}")


@pytest.fixture(scope="module")
def far_databases(lab: Lab) -> TemplateDatabases:
    return TemplateDatabases(lab.server_url)


@pytest.fixture
async def url(far_databases: TemplateDatabases, lab: Lab) -> AsyncIterator[str]:
    lab.set_wire("delay=0 loss=0 rate=0 up")
    async with far_databases.clone() as url:
        yield url


@pytest.fixture
async def near(url: str) -> AsyncIterator[Database]:
    async with open_database(url) as database:
        yield database
