"""A database for examples that are not async; at the end, how many scheduling points were tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.portal import Portal, open_portal
from trio_graphile.testing import TemplateDatabases


@pytest.fixture(scope="module")
def portal(databases: TemplateDatabases) -> Iterator[Portal]:
    """Lend one database for all examples of a module: each starts by emptying it."""
    with open_portal(databases) as portal:
        yield portal


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tried = [
        (report.nodeid.rpartition("::")[2], dict(report.user_properties))
        for report in terminalreporter.getreports("passed")
        if any(name == "points" for name, _ in report.user_properties)
    ]
    if not tried:
        return
    terminalreporter.section("scheduling points at which a run was ended")
    for name, properties in tried:
        terminalreporter.write_line(f"{properties['points']:>6} of {properties['of']:<6} {name}")
    total = sum(properties["points"] for _, properties in tried)
    terminalreporter.write_line(f"{total:>6} in all, without a violation")
