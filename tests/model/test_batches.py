"""Batches: what a handler's results come to, and which items are left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile import PermanentFailure, RetryAfter, Snooze
from trio_graphile._model.batches import batch_failure, check_result, split_array
from trio_graphile._model.failures import Verdict

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(json_values, max_size=6),
    st.sampled_from([None, 1, "\t"]),
    st.sampled_from([(",", ":"), (" , ", " : "), (",\r\n", ":")]),
    st.booleans(),
)
def test_an_array_is_split_as_it_was_written(
    values: list[Any],
    indent: int | str | None,
    separators: tuple[str, str],
    ascii_only: bool,  # noqa: FBT001  # drawn by Hypothesis
) -> None:
    text = " \n" + json.dumps(values, indent=indent, separators=separators, ensure_ascii=ascii_only) + "\t"
    items = split_array(text)
    assert [json.loads(item) for item in items] == values
    position = 0
    for item in items:
        position = text.index(item, position) + len(item)


def test_numbers_and_keys_of_failed_items_stay_as_they_were() -> None:
    payload = '[ {"b": 1.50, "a": 1, "a": 2} ,12345678901234567890123, 1e400]'
    failure = batch_failure([ValueError("x"), None, ValueError("y")], payload)
    assert failure is not None
    assert failure.payload_json == '[{"b": 1.50, "a": 1, "a": 2},1e400]'
    assert failure.text == "2 of 3 items failed: 0: ValueError: x; 2: ValueError: y"
    one = batch_failure([ValueError("x")], "[1]")
    assert one is not None
    assert one.text == "1 of 1 item failed: 0: ValueError: x"
    assert "1.50" not in repr(failure)


@pytest.mark.parametrize("result", [None, [], [None], [None, None]])
def test_a_batch_without_a_failed_item_succeeded(result: list[None] | None) -> None:
    assert batch_failure(result, "[1, 2]") is None


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([PermanentFailure(), None, PermanentFailure()], Verdict.PERMANENT),
        ([RetryAfter(5), None, RetryAfter(9)], Verdict.RETRY_AFTER),
        ([Snooze(5), None, None], Verdict.SNOOZE),
        ([PermanentFailure(), None, ValueError()], Verdict.RETRY),
    ],
)
def test_signals_of_items_count_if_all_that_failed_gave_the_same(
    errors: list[BaseException | None], verdict: Verdict
) -> None:
    failure = batch_failure(errors, "[1, 2, 3]")
    assert failure is not None
    assert failure.verdict is verdict


@pytest.mark.parametrize(
    ("result", "mistake"),
    [
        ([None], "returned 1 result for 2 items"),
        ([None] * 3, "returned 3 results for 2 items"),
        ("ab", "returned str"),
        (True, "returned bool"),
        ({1: None}, "returned dict"),
        ([None, "no"], "returned str for item 1"),
        ([None, ValueError], "returned type for item 1"),
    ],
)
def test_what_is_no_result_is_named(result: object, mistake: str) -> None:
    assert mistake in str(check_result(result, 2))


@pytest.mark.parametrize("result", [None, [None, None], (None, ValueError())])
def test_what_is_a_result_is_taken(result: object) -> None:
    assert check_result(result, 2) is None
