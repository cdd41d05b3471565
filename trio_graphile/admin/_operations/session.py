"""The user of a request, and their permissions."""

from __future__ import annotations

from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import AuthAnswer, ModeName, SessionAnswer
from trio_graphile.admin._options import Access, Action, AdminOptions, Mode
from trio_graphile.admin._safety.checks import CSRF_HEADER

__all__ = ["CSRF_HEADER", "describe_session"]

_MODES: dict[Mode, ModeName] = {"basic": "Basic", "bearer": "Bearer", "header": "Header", "none": "None"}
"""The names that scripts for Graphile Worker RS know."""


def describe_session(context: Context, access: Access, csrf_token: str | None) -> SessionAnswer:
    """Return the user and their permissions, without any secret."""
    may = [action.value for action in Action if access.allows(action)]
    return SessionAnswer(
        schema=context.database.schema,
        read_only=not may,
        csrf_header=CSRF_HEADER,
        auth=_auth(context.options),
        csrf_token=csrf_token,
        user=access.user,
        may=may,
    )


def _auth(options: AdminOptions) -> AuthAnswer:
    login = options.login
    if options.authorize is not None:
        return AuthAnswer(mode="Authorize", username=None, header_name=None, generated_secret=False)
    return AuthAnswer(
        mode=_MODES[login.mode],
        username=login.username if login.mode == "basic" else None,
        header_name=login.header_name if login.mode == "header" else None,
        generated_secret=login.secret is None and login.mode != "none",
    )
