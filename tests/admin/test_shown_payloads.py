"""Payloads as they may be seen."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from trio_graphile.admin._safety.payloads import shown_payload
from trio_graphile.admin._safety.redaction import Names


def without_email(task_identifier: str, payload: Any) -> Any:
    if task_identifier != "send":
        return payload
    return {key: "…" if key == "email" else value for key, value in payload.items()}


def test_a_function_says_what_may_be_seen_of_which_task() -> None:
    text = '{"email": "a@b", "n": 1}'
    assert shown_payload(text, "send", function=without_email) == '{"email": "…", "n": 1}'
    assert shown_payload(text, "other", function=without_email) == text
    assert shown_payload(text, "send") == text


def test_what_a_function_leaves_alone_stays_exact() -> None:
    text = '{"a": 1.10, "b": 12345678901234567890123, "c": 1e400, "d": -0.0, "e": "é", "f": [null, []]}'
    assert shown_payload(text, "send", function=without_email) == text


def test_names_are_hidden_even_if_a_function_shows_them() -> None:
    def all_of_it(_: str, __: Any) -> Any:
        return {"password": "hunter2", "iban": 1}

    assert shown_payload("{}", "send", function=all_of_it) == '{"password": "[redacted]", "iban": 1}'
    assert json.loads(shown_payload("{}", "send", names=Names(["iban"]), function=all_of_it)) == {
        "password": "hunter2",
        "iban": "[redacted]",
    }


def broken(_: str, payload: Any) -> Any:
    raise KeyError(payload["password"])


def endless(_: str, __: Any) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def no_json(_: str, __: Any) -> Any:
    return {"at": object()}


def not_a_number(_: str, __: Any) -> Any:
    return float("nan")


@pytest.mark.parametrize("function", [broken, endless, no_json, not_a_number])
def test_nothing_is_seen_if_the_function_fails(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "trio_graphile.admin"):
        shown = shown_payload('{"password": "hunter2"}', "send", function=function)
    assert json.loads(shown).startswith("[not shown: its redaction raised ")
    assert len(caplog.records) == 1
    assert "hunter2" not in shown + caplog.text


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, "{"])
def test_nothing_is_seen_of_what_the_function_cannot_be_given(text: str) -> None:
    assert json.loads(shown_payload(text, "send", function=without_email)).startswith("[not shown: ")
