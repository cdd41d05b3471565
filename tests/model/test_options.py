"""Options: durations are seconds, and what can never work is refused where it is written."""

from __future__ import annotations

from typing import Any

import pytest

from trio_graphile import DatabaseOptions, OptionInvalid
from trio_graphile._model.options import ShutdownOptions, WorkerOptions


@pytest.mark.parametrize(
    ("options", "option", "value", "reason"),
    [
        (WorkerOptions, "poll_interval", 2000, "is in seconds: 2000 is over the maximum of 600"),
        (WorkerOptions, "poll_interval", 0, "0 is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", -1, "-1 is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", float("nan"), "nan is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", True, "a number of seconds is needed"),
        (WorkerOptions, "poll_interval", "2", "a number of seconds is needed"),
        (WorkerOptions, "concurrency", 0, "0 is not between 1 and 100000"),
        (WorkerOptions, "concurrency", 1.5, "a whole number is needed"),
        (ShutdownOptions, "grace_period", -1, "-1 is not a positive number of seconds"),
        (ShutdownOptions, "flush_timeout", 0, "0 is not a positive number of seconds"),
        (ShutdownOptions, "flush_timeout", 5000, "is in seconds: 5000 is over the maximum of 600"),
        (DatabaseOptions, "pool_size", 0, "0 is not between 1 and 10000"),
        (DatabaseOptions, "connect_timeout", 5000, "is in seconds: 5000 is over the maximum of 600"),
        (DatabaseOptions, "statement_timeout", 0, "0 is not a positive number of seconds"),
        (DatabaseOptions, "wait_for_server", -0.5, "-0.5 is not a positive number of seconds"),
    ],
)
def test_what_can_never_work_is_refused_with_what_would(
    options: Any, option: str, value: object, reason: str
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        options(**{option: value})
    assert caught.value.option == option
    assert reason in caught.value.reason


def test_defaults_are_valid_and_durations_may_be_whole_or_not() -> None:
    assert WorkerOptions(poll_interval=0.25, shutdown=ShutdownOptions(grace_period=0)).poll_interval == 0.25
    assert DatabaseOptions(wait_for_server=None).wait_for_server is None


def test_the_schema_comes_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHILE_WORKER_SCHEMA", raising=False)
    assert DatabaseOptions().schema == "graphile_worker"
    monkeypatch.setenv("GRAPHILE_WORKER_SCHEMA", "jobs")
    assert DatabaseOptions().schema == "jobs"
    assert DatabaseOptions(schema="mine").schema == "mine"
