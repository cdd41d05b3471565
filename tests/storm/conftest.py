"""Says at the end of a test run how large its storms were, and how soon jobs went on."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        (value, report.nodeid.rpartition("::")[2])
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "storm"
    ]
    if told:
        terminalreporter.section("storm")
    for figures, test in told:
        terminalreporter.write_line(f"{figures} {test}")
