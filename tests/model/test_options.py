"""Options: durations are seconds, and what can never work is refused where it is written."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from trio_graphile import DatabaseOptions, LeaseOptions, OptionInvalid, PresenceOptions, RecoveryOptions
from trio_graphile._model.options import (
    LocalQueueOptions,
    RefetchDelayOptions,
    ShutdownOptions,
    WorkerOptions,
)


@pytest.mark.parametrize(
    ("options", "option", "value", "reason"),
    [
        (WorkerOptions, "poll_interval", 2000, "2000 seconds are over the maximum of 600"),
        (WorkerOptions, "poll_interval", 0, "0 is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", -1, "-1 is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", float("nan"), "nan is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", True, "a number of seconds is needed"),
        (WorkerOptions, "poll_interval", "2", "a number of seconds is needed"),
        (WorkerOptions, "concurrency", 0, "0 is not between 1 and 100000"),
        (WorkerOptions, "concurrency", 1.5, "a whole number is needed"),
        (WorkerOptions, "forbidden_flags", "a", "a sequence of flags is needed, not the one string 'a'"),
        (WorkerOptions, "accepted_flags", "a", "a sequence of flags is needed, not the one string 'a'"),
        (WorkerOptions, "accepted_flags", [], "there must be one at least"),
        (WorkerOptions, "allowed_flags", "a", "a sequence of flags is needed, not the one string 'a'"),
        (WorkerOptions, "local_queue", {}, "a LocalQueueOptions is needed, not a value of the type dict"),
        (WorkerOptions, "processes", {}, "a ProcessOptions is needed, not a value of the type dict"),
        (WorkerOptions, "cron", {}, "a CronOptions is needed, not a value of the type dict"),
        (WorkerOptions, "lease", {}, "a LeaseOptions is needed, not a value of the type dict"),
        (WorkerOptions, "recovery", {}, "a RecoveryOptions is needed, not a value of the type dict"),
        (WorkerOptions, "shutdown", {}, "a ShutdownOptions is needed, not a value of the type dict"),
        (WorkerOptions, "observers", {}, "an ObserverOptions is needed, not a value of the type dict"),
        (RecoveryOptions, "presence", {}, "a PresenceOptions is needed, not a value of the type dict"),
        (
            LocalQueueOptions,
            "refetch_delay",
            {},
            "a RefetchDelayOptions is needed, not a value",
        ),
        (WorkerOptions, "notifications", "false", "a bool is needed, not a value of the type str"),
        (DatabaseOptions, "pooled", "false", "a bool is needed, not a value of the type str"),
        (DatabaseOptions, "prepared_statements", "false", "a bool is needed, not a value of the type str"),
        *(
            (partial(RefetchDelayOptions, duration=1), "max_abort_threshold", value, "at least 1 is needed")
            for value in (0, True, "5", float("nan"))
        ),
        (ShutdownOptions, "grace_period", -1, "-1 is not a positive number of seconds"),
        (ShutdownOptions, "flush_timeout", 0, "0 is not a positive number of seconds"),
        (ShutdownOptions, "flush_timeout", 5000, "5000 seconds are over the maximum of 600"),
        (LeaseOptions, "renew_interval", 30_000, "30000 seconds are over the maximum of 3600"),
        (LeaseOptions, "renew_interval", 0, "0 is not a positive number of seconds"),
        (LeaseOptions, "renew_interval", 140, "leaves no second try"),
        (LeaseOptions, "length", 300_000, "300000 seconds are over the maximum of 86400"),
        (RecoveryOptions, "sweep_interval", 60_000, "60000 seconds are over the maximum of 3600"),
        (RecoveryOptions, "sweep_interval", 0, "0 is not a positive number of seconds"),
        (RecoveryOptions, "sweep_threshold", 300_000, "300000 seconds are over the maximum of 86400"),
        (RecoveryOptions, "recovery_delay", 30_000, "30000 seconds are over the maximum of 21600"),
        (RecoveryOptions, "orphan_threshold", 299, "299 s is shorter than the sweep_threshold of 300.0 s"),
        (RecoveryOptions, "orphan_threshold", 14_400_000, "14400000 seconds are over the maximum"),
        (RecoveryOptions, "resilient_flags", "a", "a sequence of flags is needed, not the one string 'a'"),
        (RecoveryOptions, "resilient_multiplier", 0.5, "a number from 1 to 1000 is needed, not 0.5"),
        (RecoveryOptions, "resilient_multiplier", "3", "a number from 1 to 1000 is needed, not '3'"),
        (RecoveryOptions, "reset_interval", 540_000, "540000 seconds are over the maximum of 7200"),
        (DatabaseOptions, "pool_size", 0, "0 is not between 1 and 10000"),
        (DatabaseOptions, "connect_timeout", 5000, "5000 seconds are over the maximum of 600"),
        (DatabaseOptions, "statement_timeout", 0, "0 is not a positive number of seconds"),
        (DatabaseOptions, "wait_for_server", -0.5, "-0.5 is not a positive number of seconds"),
        (WorkerOptions, "poll_interval", None, "a number of seconds is needed, not None"),
        (RecoveryOptions, "sweep_threshold", None, "a number of seconds is needed, not None"),
        (LeaseOptions, "length", "300", "a number of seconds is needed, not '300'"),
        (PresenceOptions, "indirect", "no", "a bool is needed, not a value of the type str"),
        (WorkerOptions, "forbidden_flags", [1], "a string is needed, not 1"),
        (WorkerOptions, "accepted_flags", [None], "a string is needed, not None"),
        (WorkerOptions, "allowed_flags", b"a", "a string is needed, not 97"),
        (RecoveryOptions, "resilient_flags", ["nul \0"], "PostgreSQL cannot hold a NUL character"),
    ],
)
def test_what_can_never_work_is_refused_with_what_would(
    options: Any, option: str, value: object, reason: str
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        options(**{option: value})
    assert caught.value.option == option
    assert reason in caught.value.reason


@pytest.mark.parametrize(("options", "option"), [(WorkerOptions, "poll_interval"), (LeaseOptions, "length")])
def test_a_number_that_no_float_can_hold_is_refused(options: Any, option: str) -> None:
    with pytest.raises(OptionInvalid, match=rf"^{option}: inf seconds are over the maximum of "):
        options(**{option: 10**400})


def test_defaults_are_valid_and_durations_may_be_whole_or_not() -> None:
    assert WorkerOptions(poll_interval=0.25, shutdown=ShutdownOptions(grace_period=0)).poll_interval == 0.25
    assert DatabaseOptions(wait_for_server=None).wait_for_server is None
    lease = LeaseOptions(length=200)
    assert (lease.renew_interval, lease.margin) == (20, 20)
    scaled_down = RecoveryOptions(sweep_threshold=0.2, orphan_threshold=0.2)
    assert WorkerOptions(recovery=scaled_down, lease=LeaseOptions(length=0.2)).recovery == scaled_down
    assert WorkerOptions(recovery=None).recovery is None
    assert WorkerOptions().recovery == RecoveryOptions()


def test_the_schema_comes_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHILE_WORKER_SCHEMA", raising=False)
    assert DatabaseOptions().schema == "graphile_worker"
    monkeypatch.setenv("GRAPHILE_WORKER_SCHEMA", "jobs")
    assert DatabaseOptions().schema == "jobs"
    assert DatabaseOptions(schema="mine").schema == "mine"


def test_a_lease_longer_than_others_would_wait_is_refused() -> None:
    with pytest.raises(OptionInvalid, match=r"lease.length: 300.0 s is longer than recovery.sweep_threshold"):
        WorkerOptions(recovery=RecoveryOptions(sweep_threshold=299))
