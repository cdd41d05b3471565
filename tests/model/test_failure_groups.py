"""Errors that begin alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.failure_groups import error_group


@pytest.mark.parametrize(
    ("error", "group"),
    [
        ("TimeoutError: no answer for 31.5 s", "TimeoutError: no answer for #.# s"),
        ("KeyError: 12\n  at shop.py:17", "KeyError: #"),
        ("line feed alone\r\nmore", "line feed alone\r"),
        ("٣ is a digit of other people", "٣ is a digit of other people"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_group_is_the_first_line_without_its_numbers(error: str | None, group: str) -> None:
    assert error_group(error) == group


def test_a_long_line_is_cut_after_folding() -> None:
    assert error_group("1" * 500 + "x" * 500) == "#" + "x" * 199


@given(st.text(), st.integers(0), st.integers(0))
def test_numbers_make_no_difference(text: str, one: int, other: int) -> None:
    assert error_group(f"a{one}b{text}") == error_group(f"a{other}b{text}")
