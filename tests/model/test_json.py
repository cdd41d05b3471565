"""JSON text as a json column holds it: what is written comes back, and nothing is rounded in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.json import decode, encode

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(values)
def test_any_value_comes_back(value: object) -> None:
    assert decode(encode(value)) == value


@given(values)
def test_the_standard_library_reads_what_is_written(value: object) -> None:
    assert json.loads(encode(value)) == value


@given(st.integers(min_value=2**63))
def test_integers_of_any_size_stay_integers(value: int) -> None:
    for number in (value, -value):
        assert decode(encode({"n": number})) == {"n": number}
        assert type(decode(str(number))) is int


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e400", float("inf")),
        ('"\\ud800"', "\ud800"),
        ('{"a": 1, "a": 2}', {"a": 2}),
        (' [ 1.0 , "\\u0000" ] ', [1.0, "\0"]),
    ],
)
def test_what_other_programs_may_store_can_be_read(text: str, value: object) -> None:
    assert decode(text) == value


def test_times_and_ids_are_written_as_text() -> None:
    value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "id": UUID(int=1), "n": [2**70]}
    assert decode(encode(value)) == {
        "at": "2026-01-02T00:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000001",
        "n": [2**70],
    }


def cyclic() -> list[object]:
    inner: list[object] = []
    inner.append({"again": inner})
    return inner


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "nan is not a JSON number @ $"),
        ({"a": [1, float("inf")]}, "inf is not a JSON number @ $.a[1]"),
        ({"a": {"b": object()}}, "object is not JSON @ $.a.b"),
        ([b"bytes"], "bytes is not JSON @ $[0]"),
        ({"a": {1, 2}}, "set is not JSON @ $.a"),
        ({1: "a"}, "the key 1 is not a string @ $"),
        ({"a": {None: 1}}, "the key None is not a string @ $.a"),
        (["\ud800"], "text with a lone surrogate is not valid Unicode @ $[0]"),
        ({"\ud800": 1}, "a key with a lone surrogate is not valid Unicode @ $"),
        (cyclic(), "nested too deeply, or a part of itself @ $"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_path(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=r"@ \$") as caught:
        encode(value)
    assert str(caught.value) == reason


def test_deep_nesting_is_written_while_it_can_be_read_again() -> None:
    value: object = None
    for _ in range(200):
        value = [value]
    assert decode(encode(value)) == value
