from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.admin.browser.chromium import Chromium, Visit, reason_to_skip, running_chromium, visiting
from tests.admin.browser.rows import Rows, fill
from tests.admin.browser.site import serving
from trio_graphile import Client, Database


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    if reason := reason_to_skip():
        pytest.skip(reason)
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture
async def rows(database: Database) -> Rows:
    return await fill(database)


@pytest.fixture
async def site(database: Database) -> AsyncIterator[str]:
    """Lend the address of an admin at the root, where nobody has to log in."""
    async with serving(Client(database)) as base:
        yield base


@pytest.fixture
async def visit(chromium: Chromium, site: str) -> AsyncIterator[Visit]:
    """Lend a browser for the admin at the root."""
    async with visiting(chromium, site) as visit:
        yield visit
