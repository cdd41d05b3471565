"""The contents of the login page."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class LoginForm:
    """The form. The page finds it in `request.state.login`."""

    status: int = 200
    """The status of the answer."""
    action: str
    """The address to which the form is sent."""
    token: str = attrs.field(repr=False)
    next: str
    """The page after the login."""
    asks_for_name: bool
    """Whether a user name is needed."""
    secret_name: str
    """The name of the secret on the page."""
    username: str = ""
    error: str | None = None
