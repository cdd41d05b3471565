"""Processes that the program has started: how they end, in words."""

from __future__ import annotations

import signal

import pytest

from trio_graphile.cli._children import how_ended


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "ended with 0"),
        (3, "ended with 3"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-35, "was killed by signal 35"),
    ],
)
def test_an_end_is_said_in_words(exit_code: int, words: str) -> None:
    """Also by a signal that has no name."""
    assert how_ended(exit_code) == words
