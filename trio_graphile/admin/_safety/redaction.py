"""Hides secrets in payloads by the names of their keys.

The text of a payload is copied rather than decoded and encoded: numbers, repeated keys and their order stay
as stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

SECRET_NAMES = (
    "password", "password_confirmation", "password_hash", "passwd", "pwd", "passphrase", "passcode", "secret",
    "token", "jwt", "bearer", "api_key", "secret_key", "private_key", "access_key", "encryption_key",
    "signing_key", "authorization", "cookie", "credential", "connection_string", "database_url", "dsn", "otp",
    "pin", "cvc", "cvv",
)  # fmt: skip
"""The default names under which values are hidden."""

REDACTED = '"[redacted]"'
MOST_LEVELS = 100  # of arrays and objects in each other
_SHORT_LENGTH = 4  # characters: such a name has to be a whole word
_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:(?P<string>"(?:[^"\\]++|\\.)*+")|(?P<open>[{\[])|(?P<close>[}\]])|(?P<mark>[:,])"""
    r"""|(?P<scalar>[^\s"{}\[\]:,]++))""",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+")
_OPEN_NUMBERS = re.compile(r"-?[0-9]")


class _Unreadable(Exception):
    """A text cannot be copied token by token; says why."""


def _fold(name: str) -> str:
    return re.sub(r"[\W_]", "", name).rstrip("0123456789").casefold()


class Names:
    """The names of secrets, and the keys that they cover.

    Case, `-` and `_` do not matter. A key is covered if it ends in a name, apart from digits after it:
    `X-Api-Key`, `dbPassword2` and `accesstoken` are, `token_count` and `passwordless` are not. A name of up
    to four letters must be a word by itself: `pin` covers `user_pin`, but not `spin`. Plurals are covered,
    too, unless the value is a number, as in `max_tokens`.
    """

    def __init__(self, names: Iterable[str] = SECRET_NAMES) -> None:
        folded = {_fold(name) for name in names} - {""}
        self._short = frozenset(name for name in folded if len(name) <= _SHORT_LENGTH)
        self._long = tuple(folded - self._short)

    def cover(self, key: str) -> bool:
        """Return whether a key is the name of a secret."""
        if _fold(key).endswith(self._long):
            return True
        words = _WORD.findall(key.rstrip("0123456789-_ "))
        return any("".join(words[-count:]).casefold() in self._short for count in range(1, _SHORT_LENGTH + 1))

    def cover_as_plural(self, key: str) -> bool:
        """Return whether a key is the plural of a name of a secret."""
        bare = key.rstrip("0123456789-_ ")
        return bare[-1:] in ("s", "S") and self.cover(bare[:-1])


DEFAULT_NAMES = Names()


def redact(text: str, names: Names = DEFAULT_NAMES) -> str:
    """Return a JSON text in which the values under names of secrets are hidden, at any depth.

    null, true and false are shown, since they are no secrets. A text that cannot be read, or is nested too
    deeply, is hidden as a whole; nothing is raised.
    """
    try:
        return "".join(_copy(text, names))
    except _Unreadable as reason:
        return json.dumps(f"[not shown: {reason}]")


def _copy(text: str, names: Names) -> Iterator[str]:
    """Yield the pieces of a text, with some of its values replaced."""
    copied = 0
    depth_of_hidden: int | None = None
    for token, depth, key in _values(text):
        if depth_of_hidden is not None:
            if depth == depth_of_hidden and token.lastgroup == "close":
                copied, depth_of_hidden = token.end(), None
        elif key is not None and _is_secret(key, token, names):
            yield text[copied : token.start(token.lastgroup or 0)]
            yield REDACTED
            if token.lastgroup == "open":
                depth_of_hidden = depth
            else:
                copied = token.end()
    yield text[copied:]


def _is_secret(key: str, value: re.Match[str], names: Names) -> bool:
    if value.lastgroup == "close":
        return False
    scalar = value["scalar"]
    if scalar in ("null", "true", "false"):
        return False
    if names.cover(key):
        return True
    is_number = scalar is not None and _OPEN_NUMBERS.match(scalar) is not None
    return not is_number and names.cover_as_plural(key)


def _values(text: str) -> Iterator[tuple[re.Match[str], int, str | None]]:
    """Yield the begin of each value, and the end of each list or object, with its depth and its key.

    The key is None except for the values of an object. An end has the depth of its begin.
    """
    opened: list[str] = []
    key: str | None = None
    before = ""
    for token in _tokens(text):
        mark = token[token.lastgroup or 0]
        match token.lastgroup:
            case "open":
                yield token, len(opened), key
                opened.append(mark)
                if len(opened) > MOST_LEVELS:
                    raise _Unreadable(f"it is nested deeper than {MOST_LEVELS}")
                key = None
            case "close":
                if not opened or opened.pop() + mark not in ("{}", "[]"):
                    raise _Unreadable("its brackets do not match")
                yield token, len(opened), None
            case "string" if opened and opened[-1] == "{" and before in ("{", ","):
                key = _text_of(mark)
            case "string" | "scalar":
                yield token, len(opened), key
                key = None
            case _:
                pass
        before = mark
    if opened:
        raise _Unreadable("its brackets do not match")


def _tokens(text: str) -> Iterator[re.Match[str]]:
    position, end = 0, len(text.rstrip(" \t\n\r"))
    while position < end:
        token = _TOKEN.match(text, position)
        if token is None:
            raise _Unreadable("it is no JSON")
        yield token
        position = token.end()


def _text_of(string: str) -> str:
    try:
        return str(json.loads(string, strict=False))
    except ValueError:
        raise _Unreadable("it is no JSON") from None
