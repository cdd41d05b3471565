"""Converts errors of the driver to ours, by what the caller can do about them."""

from __future__ import annotations

import trio

from trio_graphile._database.driver.libraries import asyncpg
from trio_graphile._database.rights import INSUFFICIENT_PRIVILEGE, name_missing_right
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import ConnectionLost, DatabaseError, SchemaMissing, StatementFailed

# After one of these the server closes the session.
_FATAL_STATES = frozenset({"25P03", "25P04", "57P01", "57P02", "57P03", "57P05"})


def describe_statement_error(error: BaseException, *, session_closed: bool) -> DatabaseError:
    """Return our exception for an error of a statement on an open session."""
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if session_closed or isinstance(error, OSError) or ends_session(sqlstate) or _lost_track(error):
        return ConnectionLost(f"the session was lost: {describe(error)}", sqlstate=sqlstate)
    return StatementFailed(
        describe(error),
        sqlstate=sqlstate,
        constraint=getattr(error, "constraint_name", None),
        detail=getattr(error, "detail", None),
        hint=getattr(error, "hint", None),
    )


def _lost_track(error: BaseException) -> bool:
    """Whether asyncpg does not know any more what the session is doing: nobody can use it again.

    It raises such errors of its own, without a SQLSTATE. One of them concerns what it remembers of types, and
    the session is as it was.
    """
    return isinstance(error, asyncpg.InternalClientError) and not isinstance(
        error, asyncpg.OutdatedSchemaCacheError
    )


def explain_refusal(error: StatementFailed, statement: Statement, quoted_schema: str) -> StatementFailed:
    """Return what a user can do something about, for an error of a statement of ours."""
    if error.sqlstate == INSUFFICIENT_PRIVILEGE:
        return name_missing_right(error, statement.text)
    return name_missing_schema(error, quoted_schema)


_ABSENT = frozenset({"3F000", "42P01", "42883", "42704"})
"""There is no such schema, table, function or type."""


def name_missing_schema(error: StatementFailed, quoted_schema: str) -> StatementFailed:
    """Return `SchemaMissing` for an error of a statement of ours that says so; else the error itself."""
    schema = quoted_schema[1:-1].replace('""', '"')
    if error.sqlstate not in _ABSENT or schema not in str(error):
        return error
    return SchemaMissing(
        f"the schema {schema!r} is missing or incomplete ({error}): "
        "install it with `await client.migrate()` or `trio-graphile migrate`",
        sqlstate=error.sqlstate,
        constraint=error.constraint,
        detail=error.detail,
        hint=error.hint,
    )


def ends_session(sqlstate: str | None) -> bool:
    """Whether the server closes the session after this error."""
    return sqlstate is not None and (sqlstate in _FATAL_STATES or sqlstate.startswith("08"))


def describe(error: BaseException) -> str:
    """Return the text of an error of the driver, or of a statement that took too long."""
    if isinstance(error, (TimeoutError, trio.TooSlowError)) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
