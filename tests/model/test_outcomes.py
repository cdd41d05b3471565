"""What `last_error` says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.outcomes import describe_error


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such user"), "ValueError: no such user"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "KeyError: 'name'"),
        (Mute(), "Mute (whose text could not be made)"),
        (
            ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError()])]),
            "ValueError: a; KeyError",
        ),
        (ValueError("nul \0 here"), r"ValueError: nul \0 here"),
        (ValueError("half \ud800 a pair"), r"ValueError: half \ud800 a pair"),
    ],
)
def test_an_error_is_described_by_type_and_text(error: BaseException, text: str) -> None:
    assert describe_error(error) == text


@given(st.text(max_size=20_000))
def test_a_description_is_never_empty_nor_too_long_nor_unfit_for_postgresql(text: str) -> None:
    described = describe_error(ValueError(text))
    assert 0 < len(described) <= 10_000
    assert "\0" not in described
    described.encode()
