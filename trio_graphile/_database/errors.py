"""From the driver's errors to ours, by what the caller can do about them."""

from __future__ import annotations

from urllib.parse import urlsplit

from trio_graphile._exceptions import (
    ConnectionLost,
    DatabaseError,
    DatabaseRefused,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    GraphileError,
    StatementFailed,
    is_transient,
)

_EXAMPLE = (
    "a database URL looks like postgresql://user:password@host:5432/database, with the characters / ? # @ : "
    "of a password written as %2F %3F %23 %40 %3A"
)
# The server says one of these and hangs up.
_FATAL_STATES = frozenset({"25P03", "25P04", "57P01", "57P02", "57P03", "57P05"})


def describe_statement_error(error: BaseException, *, session_closed: bool) -> DatabaseError:
    """Return our exception for what a statement on an open session raised."""
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if session_closed or isinstance(error, OSError) or _ends_session(sqlstate):
        return ConnectionLost(f"the session was lost: {_text(error)}", sqlstate=sqlstate)
    return StatementFailed(
        _text(error),
        sqlstate=sqlstate,
        constraint=getattr(error, "constraint_name", None),
        detail=getattr(error, "detail", None),
        hint=getattr(error, "hint", None),
    )


def describe_connect_error(error: BaseException, url: str | None) -> GraphileError:
    """Return our exception for what opening a session raised."""
    sqlstate: str | None = getattr(error, "sqlstate", None)
    where = safe_url(url)
    if isinstance(error, OSError) or is_transient(sqlstate) or _ends_session(sqlstate):
        return DatabaseUnavailable(f"cannot reach PostgreSQL at {where}: {_text(error)}", sqlstate=sqlstate)
    if sqlstate is not None:
        return DatabaseRefused(f"PostgreSQL at {where} turned us away: {_text(error)}", sqlstate=sqlstate)
    return DatabaseUrlInvalid(f"{_text(error)}; {_EXAMPLE}")


def check_url(url: str) -> None:
    """Raise `DatabaseUrlInvalid` for what is no database URL, without repeating any of it."""
    if not url.startswith(("postgres://", "postgresql://")):
        raise DatabaseUrlInvalid(_EXAMPLE)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise DatabaseUrlInvalid(f"the host or the port is not one; {_EXAMPLE}") from None
    if "@" in parts.path + parts.query.partition("=")[0] + parts.fragment:
        raise DatabaseUrlInvalid(f"an @ stands where none can be; {_EXAMPLE}")


def safe_url(url: str | None) -> str:
    """Return the URL without its password and its parameters."""
    if url is None:
        return "the PG* variables' address"
    try:
        check_url(url)
        parts = urlsplit(url)
        user = f"{parts.username}@" if parts.username else ""
        host = parts.hostname or next(
            (
                value
                for name, _, value in (item.partition("=") for item in parts.query.split("&"))
                if name == "host"
            ),
            "localhost",
        )
        port = f":{parts.port}" if parts.port else ""
    except (DatabaseUrlInvalid, ValueError):
        return "a URL that cannot be parsed"
    return f"{parts.scheme}://{user}{host}{port}{parts.path}"


def _ends_session(sqlstate: str | None) -> bool:
    return sqlstate is not None and (sqlstate in _FATAL_STATES or sqlstate.startswith("08"))


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
