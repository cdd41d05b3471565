"""A database for each test, copied in milliseconds from one that was migrated once."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote, urlsplit

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database, open_database
from trio_graphile._database.schema import migrate
from trio_graphile._database.statement import quote_identifier
from trio_graphile._model.options import DatabaseOptions

_CLEANUP_TIMEOUT = 10.0
_COPY_FILES = 150_000
"""PostgreSQL 15, the first that copies the files of a template only on request; for small ones that is
faster."""
_FORCED_DROP_VERSION = 130_000  # PostgreSQL 13, the first with `drop database ... with (force)`


@attrs.define
class TemplateDatabases:
    """Databases on one server, for tests.

    `server_url` is any database of the server, with a user who may create others. `prepare` gets the URL of
    the template once it has the schema of the queue, and makes the tables that every test needs. `options`
    say what that schema is called.
    """

    server_url: str = attrs.field(repr=False)
    prepare: Callable[[str], Awaitable[None]] | None = attrs.field(default=None, kw_only=True)
    options: DatabaseOptions = attrs.field(factory=DatabaseOptions, kw_only=True, repr=False)
    _template: str | None = attrs.field(default=None, init=False)
    _preparing: trio.Lock = attrs.field(factory=trio.Lock, init=False, repr=False)

    @asynccontextmanager
    async def clone(self) -> AsyncIterator[str]:
        """Yield the URL of a new database with the queue's schema; drop it afterwards."""
        async with self._preparing:
            if self._template is None:
                self._template = await self._make_template()
        async with self._database(template=self._template) as url:
            yield url

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[str]:
        """Yield the URL of a new database with nothing in it; drop it afterwards."""
        async with self._database(template="template0") as url:
            yield url

    async def aclose(self) -> None:
        """Drop the template; the next `clone` makes a new one."""
        if self._template is not None:
            await self._drop(self._template)
            self._template = None

    async def _make_template(self) -> str:
        name = _new_name("template")
        await self._create(name, template="template0")
        try:
            url = self._url_of(name)
            async with _open(url, self.options.schema) as database, database.connection() as connection:
                await migrate(connection, database.schema)
            if self.prepare is not None:
                await self.prepare(url)
        except BaseException:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await self._drop(name)
            raise
        return name

    @asynccontextmanager
    async def _database(self, *, template: str) -> AsyncIterator[str]:
        name = _new_name("test")
        try:
            await self._create(name, template=template)
            yield self._url_of(name)
        finally:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await self._drop(name)

    async def _create(self, name: str, *, template: str) -> None:
        async with self._session() as connection:
            sql = f"create database {quote_identifier(name)} template {quote_identifier(template)}"
            if connection.server_version >= _COPY_FILES:
                sql += " strategy file_copy"
            await connection.execute(sql)

    async def _drop(self, name: str) -> None:
        sql = f"drop database if exists {quote_identifier(name)}"
        async with self._session() as connection:
            if connection.server_version >= _FORCED_DROP_VERSION:
                await connection.execute(f"{sql} with (force)")
            else:
                await connection.execute(_END_SESSIONS, name)
                await connection.execute(sql)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        async with _open(self.server_url) as database, database.connection() as connection:
            yield connection

    def _url_of(self, name: str) -> str:
        return urlsplit(self.server_url)._replace(path=f"/{quote(name)}").geturl()


_END_SESSIONS = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where datname = $1::name
"""


def _open(url: str, schema: str | None = None) -> AbstractAsyncContextManager[Database]:
    options = DatabaseOptions(pool_size=1)
    return open_database(url, options if schema is None else attrs.evolve(options, schema=schema))


def _new_name(kind: str) -> str:
    return f"trio_graphile_{kind}_{secrets.token_hex(6)}"
