"""What the page with the form to log in shows."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class LoginForm:
    """The form. The page finds it in `request.state.login`."""

    status: int = 200
    """With which status the page is answered."""
    action: str
    """Where the form goes."""
    token: str = attrs.field(repr=False)
    next: str
    """Where somebody goes after it."""
    asks_for_name: bool
    """Whether a user name is needed."""
    secret_name: str
    """What the secret is called."""
    username: str = ""
    error: str | None = None
