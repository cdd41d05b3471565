"""Cookies that no script can read and no other site can send."""

from __future__ import annotations

from urllib.parse import quote

import attrs


@attrs.frozen(kw_only=True)
class CookieJar:
    """Sets cookies in the browser of one request."""

    prefix: str
    """The path of the admin; browsers send the cookies only below it."""
    is_secure: bool
    port: str
    """The port: browsers send cookies to all ports of a host, so two admins there need different names."""

    @property
    def session(self) -> str:
        """The name of the cookie of the session."""
        return f"trio_graphile_session{self.port}"

    @property
    def login(self) -> str:
        """The name of the cookie that belongs to a form to log in."""
        return f"trio_graphile_login{self.port}"

    def set(self, name: str, value: str) -> tuple[bytes, bytes]:
        """Return the header that sets a cookie, until the browser is closed."""
        secure = "; Secure" if self.is_secure else ""
        path = quote(self.prefix or "/")
        return b"set-cookie", f"{name}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}".encode()

    def clear(self, name: str) -> tuple[bytes, bytes]:
        """Return the header that removes a cookie."""
        header, value = self.set(name, "")
        return header, value + b"; Max-Age=0"
