"""What the scenarios run on, and at the end how many scheduling points were tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.scenarios.harness import Stage
from tests.scenarios.portal import Portal, open_portal
from tests.transports import TRANSPORTS, Doors
from trio_graphile import Database
from trio_graphile.testing import TemplateDatabases


@pytest.fixture(scope="module")
def portal(databases: TemplateDatabases) -> Iterator[Portal]:
    """Lend one database for all examples of a module: each starts by emptying it."""
    with open_portal(databases) as portal:
        yield portal


@pytest.fixture(scope="session")
def counts() -> dict[str, int]:
    """Keep what scenarios have been counted to have: it is the same for all that may happen to them."""
    return {}


@pytest.fixture
async def stage(
    database_url: str, database: Database, doors: Doors, transport: str, counts: dict[str, int]
) -> Stage:
    """Lend a database that workers reach by one transport; `transport` is a parameter of the test."""
    return Stage(doors.url(transport, database_url), database, counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tried = [
        (report.nodeid.rpartition("::")[2], dict(report.user_properties))
        for report in terminalreporter.getreports("passed")
        if any(name == "points" for name, _ in report.user_properties)
    ]
    if not tried:
        return
    terminalreporter.section("scheduling points at which something happened to a run")
    totals: Counter[str] = Counter()
    of: Counter[str] = Counter()
    for name, properties in tried:
        terminalreporter.write_line(f"{properties['points']:>6} of {properties['of']:<6} {name}")
        [transport] = [way for way in TRANSPORTS if f"[{way}-" in name]
        totals[transport] += int(properties["points"])
        of[transport] += int(properties["of"])
    for transport, total in totals.items():
        terminalreporter.write_line(f"{total:>6} of {of[transport]:<6} by {transport}, without a violation")
