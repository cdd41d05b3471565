"""How often a secret may be guessed."""

from __future__ import annotations

import pytest

from trio_graphile.admin._safety.limiter import AttemptLimiter, network_of


def fail(limiter: AttemptLimiter, client: str, times: int, *, now: float = 0.0) -> None:
    for _ in range(times):
        limiter.failed(client, now)


def test_after_five_failures_a_client_waits_and_another_does_not() -> None:
    limiter = AttemptLimiter()
    fail(limiter, "192.0.2.1", 4)
    assert limiter.wait_of("192.0.2.1", 1.0) == 0
    fail(limiter, "192.0.2.1", 1)
    assert limiter.wait_of("192.0.2.1", 1.0) == 59
    assert limiter.wait_of("192.0.2.2", 1.0) == 0
    assert limiter.wait_of("192.0.2.1", 60.0) == 0


def test_a_failure_counts_for_a_minute_from_when_it_was() -> None:
    limiter = AttemptLimiter()
    fail(limiter, "192.0.2.1", 1, now=0.0)
    fail(limiter, "192.0.2.1", 4, now=50.0)
    assert limiter.wait_of("192.0.2.1", 60.0) == 0
    fail(limiter, "192.0.2.1", 1, now=60.0)
    assert limiter.wait_of("192.0.2.1", 60.0) == 50


def test_after_thirty_failures_of_whomever_all_wait() -> None:
    limiter = AttemptLimiter()
    for number in range(30):
        assert limiter.wait_of("198.51.100.1", 0.0) == 0
        fail(limiter, f"192.0.2.{number}", 1)
    assert limiter.wait_of("198.51.100.1", 0.0) == 60


def test_a_network_of_ipv6_is_one_client() -> None:
    limiter = AttemptLimiter()
    for number in range(5):
        fail(limiter, f"2001:db8:1:2::{number}", 1)
    assert limiter.wait_of("2001:db8:1:2:ffff::1", 0.0) > 0
    assert limiter.wait_of("2001:db8:1:3::1", 0.0) == 0


@pytest.mark.parametrize(
    ("client", "network"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::/64"), ("unix", "unix")],
)
def test_other_ways_to_write_an_address(client: str, network: str) -> None:
    assert network_of(client) == network


def test_no_more_than_ten_thousand_clients_are_remembered() -> None:
    limiter = AttemptLimiter()
    for number in range(10_001):
        limiter.failed(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", 0.0)
    assert len(limiter) == 10_000
