"""What the tests of faults share, and how long a worker took to be itself again, said at the end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import attrs
import pytest

from tests.faults.load import EXPECTED, PATIENCE
from tests.faults.network import Proxy, open_proxy
from tests.support.notices import Notices, noticing
from trio_graphile import Database, DatabaseOptions, open_database

_PREFIX = "after a fault: "


@attrs.frozen
class Figures:
    """Measured numbers. None of them decides whether a test passes."""

    _properties: list[tuple[str, object]]

    def note(self, what: str, value: float) -> None:
        self._properties.append((_PREFIX + what, value))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    return Figures(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    measured = [
        (name.removeprefix(_PREFIX), value, report.nodeid.rpartition("::")[2])
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name.startswith(_PREFIX)
    ]
    if not measured:
        return
    terminalreporter.section("faults")
    for what, value, test in measured:
        figure = f"{value:8.2f}" if isinstance(value, float) else f"{value!s:>8}"
        terminalreporter.write_line(f"{figure} {what:<44} {test}")


@pytest.fixture
async def notices() -> AsyncIterator[Notices]:
    with noticing(logging.WARNING, PATIENCE) as notices:
        yield notices


@pytest.fixture(autouse=True)
def without_expected_failures() -> Iterator[None]:
    """Keep the failures that a load is meant to have, hundreds of them, out of the reports."""

    def is_news(record: logging.LogRecord) -> bool:
        return record.exc_info is None or EXPECTED not in str(record.exc_info[1])

    logger = logging.getLogger("trio_graphile.worker")
    logger.addFilter(is_news)
    yield
    logger.removeFilter(is_news)


IMPATIENT = DatabaseOptions(pool_size=4, connect_timeout=3.0, statement_timeout=0.5)
"""What a worker gets here, so that it gives an answer up in seconds; a client of the test waits as usual."""


@attrs.frozen
class Stage:
    """A database, and the way to it by which a worker has to go."""

    database: Database
    proxy: Proxy
    through: Database
    """The same database by way of the proxy."""
    notices: Notices
    figures: Figures


@pytest.fixture
async def stage(
    database_url: str, database: Database, notices: Notices, figures: Figures
) -> AsyncIterator[Stage]:
    async with open_proxy(database_url) as proxy, open_database(proxy.url, IMPATIENT) as through:
        yield Stage(database, proxy, through, notices, figures)
