"""Secrets in payloads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile.admin._safety.redaction import MOST_LEVELS, SECRET_NAMES, Names, redact

HIDDEN = "[redacted]"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(SECRET_NAMES), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "key",
    [
        "password", "Password", "PASSWORD", "user_password", "userPassword", "userpassword", "password2",
        "password_confirmation", "api_key", "apiKey", "API-Key", "X-Api-Key", "stripeApiKey", "accessToken",
        "accesstoken", "access_token", "client-secret", "Authorization", "Set-Cookie",
        "aws_secret_access_key", "privateKey", "pin", "userPin", "user_pin", "PIN", "db_pwd", "credential",
        "passw\\u006frd", "pass.word",
    ],
)  # fmt: skip
def test_values_under_names_of_secrets_are_hidden(key: str) -> None:
    assert redact(f'{{"{key}": "hunter2"}}') == f'{{"{key}": "{HIDDEN}"}}'
    assert redact(f'{{"{key}":5}}') == f'{{"{key}":"{HIDDEN}"}}'


@pytest.mark.parametrize(
    "key",
    ["token_count", "passwordless", "secretary", "spin", "tokenizer", "cookie_policy", "key", "monkey", ""],
)
def test_other_names_are_no_secrets(key: str) -> None:
    text = f'{{"{key}": "a"}}'
    assert redact(text) == text


def test_plurals_hide_all_but_numbers() -> None:
    text = '{"max_tokens": 4096, "device_tokens": ["a", "b"], "credentials": {"user": "x"}, "cookies": "c"}'
    assert json.loads(redact(text)) == {
        "max_tokens": 4096,
        "device_tokens": HIDDEN,
        "credentials": HIDDEN,
        "cookies": HIDDEN,
    }


def test_whatever_stands_under_the_name_of_a_secret_is_hidden_whole() -> None:
    text = '{"secret": {"a": [1, {"b": "}"}]}, "then": [{"token": [[]] }, 2], "password": {}}'
    assert redact(text) == (
        f'{{"secret": "{HIDDEN}", "then": [{{"token": "{HIDDEN}" }}, 2], "password": "{HIDDEN}"}}'
    )


def test_what_says_that_there_is_no_secret_is_shown() -> None:
    text = '{"password": null, "secret": true, "token": false}'
    assert redact(text) == text


def test_everything_else_stays_to_the_byte() -> None:
    text = ' {"b" : 1.10, "a":12345678901234567890123, "b":1e400,\n "e":"\\u0041\\/", "x": -0.0, "s":"{,:]"} '
    assert redact(text) == text


def test_names_of_ones_own_replace_those_that_are_known() -> None:
    text = '{"iban": "DE", "user_iban": "FR", "password": "x", "Social-Security_number": "1"}'
    assert json.loads(redact(text, Names(["iban", "social_security_number"]))) == {
        "iban": HIDDEN,
        "user_iban": HIDDEN,
        "password": "x",
        "Social-Security_number": HIDDEN,
    }
    assert redact(text, Names([])) == text
    assert redact(text, Names(["", "-"])) == text


@pytest.mark.parametrize(
    "text",
    ["[" * 101 + "]" * 101, "[" * 1_000_000, '{"a":' * 200 + "1" + "}" * 200, '{"a": ', "]", '"o', "[}"],
)
def test_a_text_that_cannot_be_read_is_not_shown_at_all(text: str) -> None:
    assert json.loads(redact(text)).startswith("[not shown: ")


def test_as_much_nesting_as_is_allowed_is_read() -> None:
    text = "[" * (MOST_LEVELS - 1) + '{"token":1}' + "]" * (MOST_LEVELS - 1)
    assert redact(text) == text.replace("1", f'"{HIDDEN}"')


def hide(value: Any, names: Names) -> Any:
    """The same, on values."""
    if isinstance(value, list):
        return [hide(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: HIDDEN if is_hidden(key, one, names) else hide(one, names) for key, one in value.items()}


def is_hidden(key: str, value: Any, names: Names) -> bool:
    if value is None or isinstance(value, bool):
        return False
    return names.cover(key) or (not isinstance(value, (int, float)) and names.cover_as_plural(key))


@given(JSON, st.sampled_from([None, 1]))
def test_a_text_is_redacted_as_its_value_would_be(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert json.loads(redact(text)) == hide(value, Names())


@given(JSON)
def test_nothing_changes_without_names(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert redact(text, Names([])) == text


@given(st.text() | st.text('{}[]",:\\a1 ', max_size=30))
def test_nothing_is_raised_for_any_text(text: str) -> None:
    assert isinstance(redact(text), str)
