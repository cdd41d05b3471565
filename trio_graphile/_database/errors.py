"""From the driver's errors to ours, by what the caller can do about them."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import attrs

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


@attrs.define(eq=False)
class Access:
    """Whether a database lets us in: what keeps us out, and for how long it has, is said in one place.

    Whoever has been let in with the same URL waits for whatever keeps it out now, and whoever never was
    hears of a mistake at once. Shared by the threads of a worker.
    """

    url: str | None = attrs.field(repr=False)  # it may hold a password
    _was_let_in: bool = False
    _kept_out_since: float | None = None

    def granted(self) -> None:
        """Take notice that a session was opened."""
        self._was_let_in = True
        self._kept_out_since = None

    def denied(self, error: BaseException, *, is_misfit: bool) -> GraphileError:
        """Return our exception for what opening a session raised.

        `is_misfit` says that the server wants what the driver cannot do: a way to authenticate, say.
        """
        sqlstate: str | None = getattr(error, "sqlstate", None)
        where, why = safe_url(self.url), f"{_text(error)}{self._since()}"
        if isinstance(error, ValueError):  # the URL, or a file that it names, cannot be understood
            if not self._was_let_in:
                return DatabaseUrlInvalid(f"{_text(error)}; {_EXAMPLE}")
            is_misfit = False
        if is_misfit or not (sqlstate is None or is_transient(sqlstate) or _ends_session(sqlstate)):
            return DatabaseRefused(
                f"PostgreSQL at {where} turned us away: {why}", sqlstate=sqlstate, was_let_in=self._was_let_in
            )
        # Without an SQLSTATE: there is no server, or, of several, none in the role that is wanted. So it is
        # for a moment in each switchover, when all are standbys.
        return DatabaseUnavailable(f"cannot reach PostgreSQL at {where}: {why}", sqlstate=sqlstate)

    def _since(self) -> str:
        now = time.monotonic()
        if self._kept_out_since is None:
            self._kept_out_since = now
        seconds = now - self._kept_out_since
        return f" (for {seconds:.0f} s now)" if seconds >= 1 else ""


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
