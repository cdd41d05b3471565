"""What tasks may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from trio_graphile import JobSpec, OptionInvalid, TaskOptions, TaskRegistry
from trio_graphile._model.task_options import TaskSettings


async def delay_of(attempt: int) -> float:
    return attempt


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("lane", "fiber", "'fiber' is not one of 'async', 'thread', 'process'"),
        ("timeout", 0, "not a positive number"),
        ("timeout", 3_600_000, "seconds are over the maximum"),
        ("concurrency", 0, "not between 1"),
        ("concurrency", 1.5, "a whole number"),
        ("retry", [], "a list of seconds"),
        ("retry", 5, "a list of seconds"),
        ("retry", "5", "a list of seconds"),
        ("retry", b"5", "a list of seconds"),
        ("retry", [1, -1], "seconds from 0"),
        ("retry", delay_of, "a plain function is needed, not an async one"),
        ("on_replaced", "stop", "'stop' is not one of 'finish', 'cancel'"),
        ("on_invalid_payload", "drop", "'drop' is not one of 'retry', 'fail'"),
        ("max_attempts", 0, "not between 1"),
        ("priority", 40_000, "not between"),
        ("queue_name", "q" * 129, "over the limit"),
        ("retires", 3, "there is no such option; did you mean retry?"),
        ("x", 3, "there is no such option; there are lane, timeout"),
    ],
)
def test_an_option_that_can_never_work_is_refused_by_name(option: str, value: object, reason: str) -> None:
    settings: Any = {option: value}
    for decorator in (TaskRegistry().task, TaskRegistry().batch_task):
        with pytest.raises(OptionInvalid) as caught:
            decorator("t", **settings)
        assert caught.value.option == option
        assert reason in caught.value.reason


@pytest.mark.parametrize("unknown_keys", ["ignored", None, True])
def test_what_happens_to_unknown_keys_is_one_of_two(unknown_keys: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^unknown_keys: .* is not one of 'refuse', 'ignore'$"):
        TaskRegistry(unknown_keys=unknown_keys)


def test_the_decorators_take_every_option() -> None:
    fields = {field.name for field in TaskOptions.__attrs_attrs__ if field.init}
    assert fields == TaskSettings.__annotations__.keys()


def test_what_a_specification_leaves_out_is_as_the_task_wants_it() -> None:
    options = TaskOptions(queue_name="q", max_attempts=3, priority=-5)
    assert options.complete(JobSpec()) == JobSpec(queue_name="q", max_attempts=3, priority=-5)
    own = JobSpec(queue_name="mine", max_attempts=1, priority=0, job_key="k")
    assert options.complete(own) == own
    assert TaskOptions().complete(own) is own


def test_retries_are_spaced_by_a_list_or_a_function() -> None:
    assert [TaskOptions(retry=[1, 10, 60]).retry_delay(n) for n in (1, 2, 3, 4)] == [1, 10, 60, 60]
    assert [TaskOptions(retry=[1, 10]).retry_delay(n) for n in (0, -1, -32768)] == [1, 1, 1]
    assert TaskOptions(retry=lambda attempt: attempt * 2).retry_delay(4) == 8
    assert TaskOptions().retry_delay(1) is None


@pytest.mark.parametrize("policy", [lambda _: -1, lambda _: None, lambda _: 1 / 0, lambda: 1])
def test_a_policy_that_fails_leaves_the_delay_to_the_database(
    policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert TaskOptions(retry=policy).retry_delay(2) is None
    assert "the retry policy failed for attempt 2" in caplog.text
