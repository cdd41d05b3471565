"""`Database`: one PostgreSQL, one schema, a fixed set of sessions that clients and handlers share."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, TypeVarTuple, Unpack

import attrs
import trio

from trio_graphile._database.access import Access, PasswordSource
from trio_graphile._database.address import read_address
from trio_graphile._database.bridge import Bridge, open_bridge, run_in
from trio_graphile._database.connecting import Attempt, connect
from trio_graphile._database.connection import Connection, Isolation, SessionSettings, adopt
from trio_graphile._database.driver.loops import open_loop_for_users
from trio_graphile._database.pool import Pool
from trio_graphile._database.search_path import check_server_and_path
from trio_graphile._database.statement import Statement, quote_identifier
from trio_graphile._database.statements import Statements, Verb
from trio_graphile._model.options import DatabaseOptions
from trio_graphile._model.validators import check_kind

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
logger = logging.getLogger("trio_graphile.database")

_CLIENT_MARGIN = 2.0
"""How much longer than the server we wait for a statement, so that normally the server's word comes first."""

_KEEP_ALIVE = {
    # The server's side of the connection. It would learn of a machine that vanished after hours, and keep
    # what a transaction of ours has locked until then: the row of a job, say. Seconds, but for the last,
    # milliseconds for what was sent and never acknowledged.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

_ISOLATION = {
    # Our own statements wait for rows, or pass over them, and go by what these are then. At any other level,
    # which may be the default of the role or the database, they would be refused instead.
    "default_transaction_isolation": "read committed",
}

_READ_ONLY = {"default_transaction_read_only": "on"}

_STEADY_PLANS = {
    # Our own statements look rows up by index, however large the tables are said to be. Whoever plans them
    # while the queue is empty, or before it was analyzed, would rather read all of it, each time, later on.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


@attrs.define(eq=False)
class Database(Statements):
    """A PostgreSQL database and the schema of a queue in it. Made by `open_database`.

    A statement runs on a session of the pool, which is another borrower's afterwards. One that the SQL may
    have changed (by a `set`, a `begin`, a temporary table) is closed instead: what is to last belongs in
    `connection`. That and `transaction` lend a session.
    """

    options: DatabaseOptions
    _access: Access = attrs.field(repr=False)
    _direct_access: Access = attrs.field(repr=False)
    """For what must not go through a pooler: `options.direct_url`, or the same."""
    _bridge: Bridge = attrs.field(repr=False)
    _users_loop: Any = attrs.field(default=None, repr=False)
    """The asyncio loop of users' code. Our sessions have another, for themselves."""
    cancel_timeout: float = attrs.field(default=1.0, repr=False)
    """How long a statement may still take after a cancellation, in seconds. A worker may shorten it."""
    _purpose: str = attrs.field(default="", repr=False)
    """What the sessions of the pool are for, where that is something of its own."""
    _is_read_only: bool = attrs.field(default=False, repr=False)
    _has_steady_plans: bool = attrs.field(default=False, repr=False)
    """Whether the sessions of the pool look up what is few, and run nothing but our statements."""
    _pool_timeout: float = attrs.field(default=math.inf, repr=False)
    """How long a statement waits for a session while all are lent."""
    _pool: Pool = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pool = Pool(self._begin_shared_session, self.options.pool_size, self._pool_timeout)

    @property
    def address(self) -> str:
        """Where the database is, for messages: without the password, and without parameters."""
        return self._access.address.shown

    @property
    def schema(self) -> str:
        """The name of the queue's schema, unquoted."""
        return self.options.schema

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a session; what the borrower leaves on it (settings, locks, a transaction) is undone."""
        return self._pool.borrow_clean()

    @contextlib.asynccontextmanager
    async def transaction(self, isolation: Isolation | None = None) -> AsyncIterator[Connection]:
        """Lend a session with a transaction: committed at the end of the body, rolled back if it raises."""
        async with self.connection() as connection, connection.transaction(isolation):
            yield connection

    async def run_asyncio(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Run an asyncio function in the asyncio loop that is open beside us, and return what it returns.

        If cancelled, its asyncio task is, and is waited for. Raises whatever it raises, or `DatabaseClosed`.
        """
        self._pool.check_open()
        return await run_in(self._users_loop, function, *args)

    @property
    def is_read_only(self) -> bool:
        """Whether the sessions of the pool refuse to write because we have asked for that."""
        return self._is_read_only

    @property
    def is_direct(self) -> bool:
        """Whether sessions that must not go through a pooler do not, as far as the options say."""
        return self.options.prepared_statements or self.options.direct_url is not None

    @property
    def may_listen(self) -> bool:
        """Whether a session can hear notifications: a pooler forgets who listens."""
        return not self.options.pooled or self.options.direct_url is not None

    @property
    def hears_everywhere(self) -> bool:
        """Whether every session can hear notifications: none may go through a pooler, as far as we know."""
        return self.options.prepared_statements and self.options.direct_url is None

    @property
    def settings_asked_for(self) -> dict[str, str]:
        """The settings of a session by `open_session`; none where the options say that a pooler may be."""
        if not self.options.prepared_statements:
            return {}
        return {**self._session_settings().settings, **_ISOLATION, **_STEADY_PLANS}

    async def wait_reachable(self) -> None:
        """Wait until a session can be opened, as long as the options say. Raises `DatabaseUnavailable`."""
        await self._pool.wait_reachable(self.options.wait_for_server or 0.0)

    async def aclose(self) -> None:
        """Close the sessions of the pool, within a second. `open_database` does it."""
        await self._pool.aclose()

    async def open_session(
        self,
        purpose: str,
        *,
        cancel_timeout: float,
        interruptible: bool = False,
        lock_timeout: float | None = None,
        answer_timeout: float | None = None,
        direct: bool = False,
    ) -> Connection:
        """Open a session outside the pool, for one owner that closes it; a direct one if it must be.

        When cancelled, its statements go on unless they are interruptible; either way they end within
        `cancel_timeout` seconds. One is given up that waits for a lock for over `lock_timeout` seconds,
        unless a pooler stands between us and the server. We wait for an answer for `answer_timeout` seconds,
        by default a little longer than the server lets a statement run. Raises `DatabaseUnavailable`,
        `DatabaseClosed`.
        """
        self._pool.check_open()
        shared = self._session_settings(purpose)
        own = attrs.evolve(
            shared,
            settings={**shared.settings, **_ISOLATION, **_STEADY_PLANS, **_lock_timeout(lock_timeout)},
            interruptible=interruptible,
            json_values=False,
            statement_timeout=shared.statement_timeout if answer_timeout is None else answer_timeout,
        )
        if direct and self.options.direct_url is not None:
            own = attrs.evolve(own, prepared_statements=True)
        access = self._direct_access if direct else self._access
        return await connect(self._bridge, access, own, cancel_timeout)

    @contextlib.asynccontextmanager
    async def in_this_thread(self) -> AsyncIterator[Database]:
        """Open the same database for another thread: sessions belong to the thread that opened them."""
        async with open_bridge() as bridge:
            database = Database(self.options, self._access, self._direct_access, bridge)
            try:
                yield database
            finally:
                await database.aclose()

    @contextlib.asynccontextmanager
    async def beside(
        self,
        purpose: str,
        *,
        pool_size: int,
        statement_timeout: float,
        read_only: bool,
        steady_plans: bool = False,
    ) -> AsyncIterator[Database]:
        """Open another pool on the same database, so that what borrows from it takes nothing from others.

        None of its sessions is opened before it is needed. Read-only ones refuse what would write, unless
        a pooler stands between us and the server. Whoever finds all lent waits as long as a statement may
        take, then `SessionsBusy` is raised. With steady plans they look rows up by index, whatever the
        planner makes of the table. Raises `DatabaseClosed`.
        """
        self._pool.check_open()
        options = attrs.evolve(self.options, pool_size=pool_size, statement_timeout=statement_timeout)
        database = Database(
            options,
            self._access,
            self._direct_access,
            self._bridge,
            self._users_loop,
            purpose=purpose,
            is_read_only=read_only,
            has_steady_plans=steady_plans,
            pool_timeout=statement_timeout,
        )
        try:
            yield database
        finally:
            await database.aclose()

    def adopt(self, connection: object) -> Connection:
        """Wrap a caller's asyncpg connection, so that our statements run in the caller's transaction."""
        return adopt(connection, self._users_loop, self._session_settings())

    @trio.lowlevel.enable_ki_protection
    async def _run(self, verb: Verb, sql: str | Statement, arguments: tuple[object, ...]) -> Any:
        connection = await self._pool.borrow()
        try:
            connection.cancel_timeout = self.cancel_timeout
            return await connection._run(verb, sql, arguments)  # noqa: SLF001  # it is of the same kind
        finally:
            await self._pool.give_back(connection)  # noqa: ASYNC102  # bounded inside

    def _begin_shared_session(self) -> Attempt:
        return Attempt(self._bridge, self._access, self._session_settings(), self.cancel_timeout)

    def _session_settings(self, purpose: str = "") -> SessionSettings:
        options = self.options
        name = self._access.address.application_name
        purpose = " ".join(filter(None, [self._purpose, purpose]))
        return SessionSettings(
            quoted_schema=quote_identifier(options.schema),
            connect_timeout=options.connect_timeout,
            statement_timeout=options.statement_timeout + _CLIENT_MARGIN,
            prepared_statements=options.prepared_statements,
            settings={
                "application_name": f"{name} {purpose}" if purpose else name,
                "statement_timeout": str(int(options.statement_timeout * 1000)),
                # Our statements touch few rows; compiling one costs more than running it.
                "jit": "off",
                **_KEEP_ALIVE,
                **({**_ISOLATION, **_STEADY_PLANS} if self._has_steady_plans else {}),
                **(_READ_ONLY if self._is_read_only else {}),
            },
        )


def _lock_timeout(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"lock_timeout": str(max(1, int(seconds * 1000)))}


@contextlib.asynccontextmanager
async def open_database(
    url: str | None = None,
    options: DatabaseOptions | None = None,
    *,
    password: PasswordSource | None = None,
    connect_arguments: Mapping[str, Any] | None = None,
) -> AsyncIterator[Database]:
    """Open a database for as long as the body lasts.

    Without a URL, `$DATABASE_URL` is used, else the `PG*` variables. `password` says the password each time a
    session is opened, for one that changes: a function, async or not; what it raises counts as an outage.
    `connect_arguments` go to `asyncpg.connect`: `ssl`, say, with a context of your own.

    Raises `OptionInvalid`, `DatabaseUrlInvalid`, `DatabaseRefused` (wrong role, password or database, or a
    search path that has something else in the place of PostgreSQL's own functions), `PostgresTooOld` or,
    within `connect_timeout` or `wait_for_server` seconds, `DatabaseUnavailable`.

    Users' asyncio code runs in the asyncio loop that is open here, or else in one that is opened for it.
    """
    options = options if options is not None else DatabaseOptions()
    if url is not None:
        check_kind("url", url, str)
    check_kind("options", options, DatabaseOptions)
    if options.pooled:
        options = attrs.evolve(options, prepared_statements=False)
    access = _access_to(url, password, connect_arguments)
    direct = (
        access if options.direct_url is None else _access_to(options.direct_url, password, connect_arguments)
    )
    async with open_bridge() as bridge, open_loop_for_users() as users_loop:
        database = Database(options, access, direct, bridge, users_loop)
        try:
            await database.wait_reachable()
            await check_server_and_path(database)
            yield database
        finally:
            await database.aclose()


def _access_to(
    url: str | None, password: PasswordSource | None, connect_arguments: Mapping[str, Any] | None
) -> Access:
    address = read_address(url, os.environ)
    for note in address.notes:
        logger.warning("%s of the database's URL is not supported, and left out", note)
    return Access(address=address, password=password, connect_arguments=connect_arguments or {})
