"""What a request shows for itself."""

from __future__ import annotations

import base64
import hmac

import pytest
from starlette.datastructures import Headers

from trio_graphile.admin._options import LoginOptions, Mode
from trio_graphile.admin._safety.authentication import Lock, generate_secret

SECRET = "grüße:ok"


def lock(mode: Mode, secret: str = SECRET) -> Lock:
    return Lock.of(LoginOptions(mode=mode, username="ada", header_name="x-own"), secret)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def opens(mode: Mode, *headers: tuple[str, str]) -> bool | None:
    chosen = lock(mode)
    raw = [(name.encode(), value.encode("utf-8")) for name, value in headers]
    shown = chosen.shown_in(Headers(raw=raw))
    return None if shown is None else chosen.opens(shown)


@pytest.mark.parametrize(
    ("mode", "name", "value", "is_right"),
    [
        ("basic", "authorization", basic(f"ada:{SECRET}"), True),
        ("basic", "authorization", basic(f"ada:{SECRET}").replace("Basic", "bAsIc"), True),
        ("basic", "authorization", basic("ada:grüße"), False),
        ("basic", "authorization", basic(f"eve:{SECRET}"), False),
        ("basic", "authorization", basic("ada"), False),
        ("basic", "authorization", "Basic ////", False),
        ("basic", "authorization", "Basic %%%", False),
        ("basic", "authorization", f"Bearer {SECRET}", None),
        ("bearer", "authorization", f"Bearer {SECRET}", True),
        ("bearer", "authorization", f"Bearer {SECRET}x", False),
        ("bearer", "authorization", basic(f"ada:{SECRET}"), None),
        ("bearer", "x-own", SECRET, None),
        ("header", "x-own", SECRET, True),
        ("header", "x-own", "", False),
        ("header", "authorization", f"Bearer {SECRET}", None),
        ("none", "authorization", f"Bearer {SECRET}", None),
    ],
)
def test_what_opens_and_what_does_not(mode: Mode, name: str, value: str, *, is_right: bool | None) -> None:
    assert opens(mode, (name, value)) is is_right


@pytest.mark.parametrize("mode", ["basic", "bearer", "header"])
def test_credentials_that_stand_twice_are_wrong(mode: Mode) -> None:
    name = "x-own" if mode == "header" else "authorization"
    value = {"basic": basic(f"ada:{SECRET}"), "bearer": f"Bearer {SECRET}", "header": SECRET}[mode]
    assert opens(mode, (name, value), (name, value)) is False


def test_name_and_secret_are_both_compared_by_digests_however_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = lock("basic")
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for text in ("e:x", f"ada:{SECRET}", "ada:x", f"e:{SECRET}"):
        shown = chosen.shown_in(Headers({"authorization": basic(text).encode().decode("latin-1")}))
        assert shown is not None
        compared.clear()
        chosen.opens(shown)
        assert [(len(one), len(other)) for one, other in compared] == [(32, 32), (32, 32)]


def test_only_basic_is_sent_by_browsers_by_themselves() -> None:
    def is_sent(mode: Mode, headers: dict[str, str]) -> bool:
        shown = lock(mode, "s").shown_in(Headers(headers))
        assert shown is not None
        return shown.is_sent_by_browsers

    assert is_sent("basic", {"authorization": basic("ada:s")})
    assert not is_sent("bearer", {"authorization": "Bearer s"})
    assert not is_sent("header", {"x-own": "s"})


def test_secrets_are_in_no_repr() -> None:
    shown = lock("bearer").shown_in(Headers({"authorization": "Bearer hidden"}))
    assert "hidden" not in repr(shown)
    assert "hidden" not in repr(lock("bearer", "hidden"))
    assert "hidden" not in repr(LoginOptions(secret="hidden"))


def test_a_generated_secret_is_24_random_bytes_as_hex() -> None:
    secrets = {generate_secret() for _ in range(10)}
    assert len(secrets) == 10
    assert all(len(secret) == 48 and int(secret, 16) >= 0 for secret in secrets)
