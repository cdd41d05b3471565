"""What the admin is told, checked where it is told."""

from __future__ import annotations

from typing import Any

import pytest

from trio_graphile import Client, Database, OptionInvalid
from trio_graphile.admin import EVERYTHING, READING, Access, Action, Admin, AdminOptions, LoginOptions


async def hidden(identifier: str, payload: object) -> None:
    """What would be shown in the place of a payload is not awaited."""


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
        ("username", 5),
        ("secret", b"sesame"),
        ("header_name", 5),
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
        ("trusted_proxies", [1]),  # not 0.0.0.1
        ("redacted_names", [None]),
        ("allowed_hosts", b"jobs.example"),
        ("public_url", b"https://jobs.example"),
        ("login", {"mode": "none"}),
        ("read_only", "no"),
        ("read_only", None),
        ("authorize", True),
        ("redact", "app.jobs:redact"),
        ("redact", hidden),
        ("crontab", "* * * * * tick"),
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
    nobody: Any = None
    with pytest.raises(OptionInvalid, match=r"^user: a str is needed, not None$"):
        Access(nobody)


async def test_the_admin_of_what_is_no_client(database: Database) -> None:
    wrong: Any = database
    with pytest.raises(
        OptionInvalid, match=r"^client: a Client is needed, such as .*, not .* type Database$"
    ):
        Admin(wrong)
    with pytest.raises(
        OptionInvalid, match=r"^options: an AdminOptions is needed, not .* type LoginOptions$"
    ):
        Admin(Client(database), LoginOptions())  # type: ignore[arg-type]
