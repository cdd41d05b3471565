"""What the admin is told, checked where it is told."""

from __future__ import annotations

from typing import Any

import pytest

from trio_graphile import OptionInvalid
from trio_graphile.admin import EVERYTHING, READING, Access, Action, AdminOptions, LoginOptions


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mode", "digest"),
        ("username", "a:b"),
        ("username", ""),
        ("secret", ""),
        ("secret", "a\nb"),
        ("header_name", "x y"),
        ("header_name", ""),
        ("header_name", "Authorization"),
        ("header_name", "cookie"),
        ("session_length", 43_200_000),
        ("session_idle", 0),
    ],
)
def test_a_login_that_cannot_be(option: str, value: Any) -> None:
    with pytest.raises(OptionInvalid) as raised:
        LoginOptions(**{option: value})
    assert raised.value.option == option


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("allowed_hosts", "jobs.example"),
        ("allowed_hosts", ["https://jobs.example"]),
        ("allowed_hosts", ["jobs.example:80"]),
        ("allowed_hosts", [""]),
        ("allowed_hosts", ["*"]),
        ("public_url", "jobs.example"),
        ("public_url", "ftp://jobs.example"),
        ("public_url", "https://"),
        ("public_url", "https://a:b@jobs.example"),
        ("public_url", "https://jobs.example/?a"),
        ("public_url", "https://jobs.example:x"),
        ("trusted_proxies", "10.0.0.1"),
        ("trusted_proxies", ["proxy.example"]),
        ("trusted_proxies", ["10.0.0.1/8"]),
        ("redacted_names", "password"),
        ("pool_size", 0),
        ("statement_timeout", 5000),
    ],
)
def test_options_that_cannot_be(option: str, value: Any) -> None:
    with pytest.raises(OptionInvalid) as raised:
        AdminOptions(**{option: value})
    assert raised.value.option == option


def test_hosts_and_urls_are_taken_as_browsers_send_them() -> None:
    options = AdminOptions(allowed_hosts=["Jobs.Example."], public_url="https://pub.example/ops/")
    assert options.allowed_hosts == ("jobs.example",)
    assert options.public_url == "https://pub.example/ops"


def test_access_is_everything_reading_or_some_actions() -> None:
    assert Access("ada", EVERYTHING).may == frozenset(Action)
    assert Access("ada").may == READING == frozenset()
    some = Access("ada", ["add", Action.FAIL])
    assert [some.allows(action) for action in (None, Action.ADD, Action.FAIL, Action.CLEANUP)] == [
        True
    ] * 3 + [False]
    with pytest.raises(OptionInvalid, match="run-now"):
        Access("ada", ["run_now"])
