"""The four ways to run one statement, for whatever runs statements: a session, or who has some to lend."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from trio_graphile._database.statement import Statement

Row: TypeAlias = Mapping[str, Any]
Verb: TypeAlias = Literal["fetch", "fetchrow", "fetchval", "execute"]
"""What a session of asyncpg's calls the four."""


class Statements(abc.ABC):
    """Runs statements, each as `_run` does.

    All of them are atomic under cancellation, and raise `StatementFailed` if the server refuses a statement,
    `ConnectionLost` if the session dies meanwhile.
    """

    __slots__ = ()

    @abc.abstractmethod
    async def _run(self, verb: Verb, sql: str | Statement, arguments: tuple[object, ...]) -> Any: ...

    async def fetch(self, sql: str | Statement, *arguments: object) -> list[Row]:
        """Run one statement and return its rows."""
        return await self._run("fetch", sql, arguments)  # type: ignore[no-any-return]  # as asyncpg says

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None:
        """Run one statement and return its first row, or None."""
        return await self._run("fetchrow", sql, arguments)  # type: ignore[no-any-return]  # as above

    async def fetch_value(self, sql: str | Statement, *arguments: object) -> Any:
        """Run one statement and return the first column of its first row, or None."""
        return await self._run("fetchval", sql, arguments)

    async def execute(self, sql: str | Statement, *arguments: object) -> str:
        """Run one statement (several, if there are no arguments); return its command tag."""
        return await self._run("execute", sql, arguments)  # type: ignore[no-any-return]  # as above
