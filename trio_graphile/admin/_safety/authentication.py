"""The credentials of a request, and whether they are right."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Self

import attrs
from starlette.datastructures import Headers

from trio_graphile.admin._options import LoginOptions, Mode

_BYTES = 24
CHALLENGE = 'Basic realm="trio_graphile", charset="UTF-8"'


def generate_secret() -> str:
    """Return a new secret, for an admin that was given none."""
    return secrets.token_hex(_BYTES)


@attrs.frozen(kw_only=True)
class Credentials:
    """A user name and a secret, as a request has them."""

    username: str
    secret: str = attrs.field(repr=False)
    is_sent_by_browsers: bool = False
    """Whether browsers add them by themselves, also to requests of other sites."""


_NOTHING = Credentials(username="", secret="")


@attrs.frozen(kw_only=True)
class Lock:
    """The right credentials, as digests of name and secret."""

    mode: Mode
    username: str
    header_name: str
    _username: bytes = attrs.field(repr=False, alias="username_digest")
    _secret: bytes = attrs.field(repr=False, alias="secret_digest")

    @classmethod
    def of(cls, login: LoginOptions, secret: str) -> Self:
        """Return the lock for a secret."""
        return cls(
            mode=login.mode,
            username=login.username,
            header_name=login.header_name,
            username_digest=_digest(login.username),
            secret_digest=_digest(secret),
        )

    def opens(self, shown: Credentials) -> bool:
        """Return whether credentials are right, in a time that does not depend on how wrong they are."""
        is_name = hmac.compare_digest(_digest(shown.username), self._username)
        is_secret = hmac.compare_digest(_digest(shown.secret), self._secret)
        return is_name & is_secret

    def shown_in(self, headers: Headers) -> Credentials | None:
        """Return the credentials in a request, right or wrong; None if it has none of the expected kind."""
        name = self.header_name if self.mode == "header" else "authorization"
        values = headers.getlist(name)
        if not values or self.mode == "none":
            return None
        if len(values) > 1:
            return _NOTHING
        if self.mode == "header":
            return self._token(values[0])
        scheme, _, rest = values[0].partition(" ")
        if scheme.lower() != self.mode:
            return None
        return _basic(rest.strip()) if self.mode == "basic" else self._token(rest.strip())

    def _token(self, value: str) -> Credentials:
        # Headers are read as Latin-1; a secret may be any text.
        text = value.encode("latin-1").decode(errors="replace")
        return Credentials(username=self.username, secret=text)


def _basic(encoded: str) -> Credentials:
    try:
        username, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return _NOTHING
    if not colon:
        return _NOTHING
    return Credentials(username=username, secret=secret, is_sent_by_browsers=True)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
