"""Waits grow up to their cap and are spread at random."""

from __future__ import annotations

from itertools import islice

from trio_graphile._model.backoff import backoff_delays


def test_delays_grow_to_the_cap_each_shortened_by_up_to_half() -> None:
    delays = list(islice(backoff_delays(first=1.0, cap=8.0), 50))
    for delay, full in zip(delays, [1.0, 2.0, 4.0] + [8.0] * 47, strict=True):
        assert full / 2 <= delay <= full
    assert len(set(delays)) > 40


def test_delays_never_end_and_never_overflow() -> None:
    assert max(islice(backoff_delays(cap=30.0), 5000)) <= 30.0
