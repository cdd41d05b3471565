"""What a notification announces, whoever sent it."""

from __future__ import annotations

import pytest

from trio_graphile._worker.listener import announced_jobs


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        ('{"r":0.5,"count":3}', 3),
        ('{"r":5e-1,"count":-1}', -1),
        ('{"r":0.5,"count":0}', 0),
        ('{"r":0.5}', 1),
        ('{"count":"many"}', 1),
        ("", 1),
        ("not JSON", 1),
        ("[]", 1),
        ("null", 1),
    ],
)
def test_a_notification_that_does_not_say_how_many_means_one(payload: str, count: int) -> None:
    assert announced_jobs(payload) == count
