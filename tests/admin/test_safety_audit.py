"""Lines about changes."""

from __future__ import annotations

import logging

import pytest

from trio_graphile.admin._options import Action
from trio_graphile.admin._safety.audit import Audit


def line(caplog: pytest.LogCaptureFixture, user: str, ids: list[int], outcome: dict[str, object]) -> str:
    with caplog.at_level(logging.INFO, "trio_graphile.admin.audit"):
        Audit().record(user, Action.FAIL, ids, outcome)
    [record] = caplog.records
    return record.getMessage()


def test_a_line_says_who_what_which_and_what_came_of_it(caplog: pytest.LogCaptureFixture) -> None:
    written = line(caplog, "ada", [1, 2], {"changed": 2, "reason": "old"})
    assert written == 'user="ada" action="fail" ids=[1, 2] outcome={"changed": 2, "reason": "old"}'


def test_no_text_ends_the_line_or_turns_it_around(caplog: pytest.LogCaptureFixture) -> None:
    written = line(caplog, "a\r\nuser=root", [], {"reason": "\x1b[2J\u202e\n"})
    assert written.isascii()
    assert written.isprintable()


def test_reasons_are_cut_and_payloads_left_out(caplog: pytest.LogCaptureFixture) -> None:
    written = line(caplog, "ada", [], {"reason": "r" * 1000, "payload": {"a": "hidden"}})
    assert "r" * 200 in written
    assert "r" * 201 not in written
    assert "hidden" not in written
