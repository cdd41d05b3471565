"""Shares of what is sampled: runs on several interpreters, a share each, try the whole sample together."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

Thing = TypeVar("Thing")


@attrs.frozen
class Share:
    """The `number`th of `of` equal shares, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read `--share`'s value, such as 2/3."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(f"{text!r} is no share such as 1/3 or 3/3")
        return cls(int(number), int(of))

    @classmethod
    def of_run(cls, config: pytest.Config) -> Share:
        """Return which share this run of pytest was told to try."""
        share: Share = config.getoption("--share")
        return share

    def count(self, total: int) -> int:
        """Return how many of so many are ours; the first shares get what is left over."""
        return (total + self.of - self.number) // self.of

    def deal(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """Return those of the things that are ours: each is in exactly one share."""
        return things[self.number - 1 :: self.of]


def others_share(share: Share, items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the tests marked `dealt` that are in other shares.

    Each module is dealt by itself, because not every run has every module.
    """
    dealt: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("dealt") is not None:
            dealt.setdefault(item.path, []).append(item)
    for tests in dealt.values():
        ours = set(share.deal(tests))
        yield from (test for test in tests if test not in ours)
