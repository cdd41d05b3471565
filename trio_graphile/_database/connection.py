"""`Connection`: one PostgreSQL session; with `connecting`, the only module that speaks asyncpg.

Its contract: **a statement is atomic with respect to Trio's cancellation.** Once sent, its answer is waited
for and used; the cancellation is delivered at the next checkpoint. The wait is bounded: a statement that
exceeds its time, or the time left after a cancellation, ends with its session terminated (never politely
closed) and `ConnectionLost`, and only then is its fate unknown.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import attrs
import trio

from trio_graphile._database.bridge import Bridge, bridge_here
from trio_graphile._database.driver.libraries import asyncpg
from trio_graphile._database.driver.sessions import (
    can_prepare_ahead,
    cancel_request,
    forget_transaction,
    prepare_ahead,
    socket_of,
)
from trio_graphile._database.errors import describe_statement_error, explain_refusal
from trio_graphile._database.statement import Statement, may_change_session
from trio_graphile._database.statements import Row as Row  # noqa: PLC0414  # so that it is found here, too
from trio_graphile._database.statements import Statements, Verb
from trio_graphile._exceptions import ConnectionLost, DatabaseError, StatementFailed

T = TypeVar("T")
Isolation: TypeAlias = Literal["read_committed", "repeatable_read", "serializable"]

DEFAULT_ISOLATION = """
    select replace(current_setting('default_transaction_isolation'), ' ', '_')
"""

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

CLOSE_TIMEOUT = 1.0
"""What sessions get to be closed politely, all together, in seconds."""


class Transactor(Protocol):
    """What opens transactions: a `Connection`, or a `Database` that lends one."""

    def transaction(
        self, isolation: Isolation | None = None
    ) -> contextlib.AbstractAsyncContextManager[Connection]: ...


class Executor(Protocol):
    """What runs statements: a `Connection`, or a `Database` that lends one for each."""

    async def fetch(self, sql: str | Statement, *arguments: object) -> list[Row]: ...
    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None: ...
    async def fetch_value(self, sql: str | Statement, *arguments: object) -> Any: ...
    async def execute(self, sql: str | Statement, *arguments: object) -> str: ...


@attrs.frozen(kw_only=True)
class SessionSettings:
    """How one session behaves. Durations are seconds."""

    quoted_schema: str
    connect_timeout: float
    statement_timeout: float
    prepared_statements: bool = True
    interruptible: bool = True
    """Whether a cancellation asks the server to abandon the statement at hand."""
    json_values: bool = True
    """Whether json columns come and go as Python values (ours go as text)."""
    settings: Mapping[str, str] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Connection(Statements):
    """One PostgreSQL session. One Trio task uses it at a time.

    Every statement is atomic with respect to cancellation: it took effect and its answer is returned, or it
    did not. Only after `ConnectionLost` is that unknown.
    """

    _raw: Any
    _bridge: Bridge
    _settings: SessionSettings
    cancel_timeout: float = 1.0
    """How long a statement may still take after a cancellation, in seconds."""
    _may_be_changed: bool = False
    _default_isolation: Isolation | None = attrs.field(init=False, default=None)

    @property
    def is_closed(self) -> bool:
        """Whether the session is over."""
        return bool(self._raw.is_closed())

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open on the session."""
        return not self.is_closed and bool(self._raw.is_in_transaction())

    @property
    def is_as_new(self) -> bool:
        """Whether somebody else can use the session: not if a statement has left something behind on it.

        What a function does that a statement calls is not seen.
        """
        return not (self._may_be_changed or self.is_closed or self._raw.is_in_transaction())

    @property
    def socket(self) -> Any | None:
        """The socket of the session; None if it is closed or cannot be seen."""
        return None if self.is_closed else socket_of(self._raw)

    @property
    def server_version(self) -> int:
        """The server's version as PostgreSQL counts: 180006 is 18.6."""
        version = self._raw.get_server_version()
        return int(version.major) * 10_000 + (int(version.micro) if version.major >= 10 else 0)

    async def prepare(self, statements: Iterable[Statement]) -> bool:
        """Have the server parse statements that are to run soon; False if it may not keep what it prepared.

        It waits without a limit, and holds what the transaction has locked, for whoever vanishes between
        the two halves of a statement: neither is the session idle, nor is the statement's time running. One
        that was prepared has no halves.
        """
        if not (self._settings.prepared_statements and can_prepare_ahead()):
            return False
        for statement in statements:
            try:
                await self._call(partial(prepare_ahead, self._raw, self._text(statement)))
            except StatementFailed as error:
                raise explain_refusal(error, statement, self._settings.quoted_schema) from error.__cause__
        return True

    async def limit_transaction(self, statements: int, silence: float) -> None:
        """Have the server end the transaction when so many statements, and pauses between, must be over.

        Servers before PostgreSQL 17 cannot.
        """
        if self.server_version >= _FIRST_WITH_TRANSACTION_TIMEOUT:
            longest = statements * (self._settings.statement_timeout + silence)
            await self.execute(LIMIT_TRANSACTION, f"{longest}s")

    async def default_isolation(self) -> Isolation:
        """Return the level of transactions that ask for none: the role or the database may have one set.

        Asked once: what a borrower changes is undone.
        """
        if self._default_isolation is None:
            self._default_isolation = await self.fetch_value(DEFAULT_ISOLATION)
        return self._default_isolation

    @contextlib.asynccontextmanager
    async def transaction(self, isolation: Isolation | None = None) -> AsyncIterator[Connection]:
        """Run the body in a transaction, or in a savepoint of the one that is open.

        Commits if the body ends normally and is not cancelled, rolls back otherwise. A commit, once
        sent, is waited for. Raises `StatementFailed` if the commit is refused.
        """
        try:
            transaction = self._raw.transaction(isolation=isolation)
        except asyncpg.InterfaceError as error:
            raise describe_statement_error(error, session_closed=self.is_closed) from error
        try:
            await self._call(transaction.start)
        except DatabaseError:
            if not self.is_in_transaction:
                forget_transaction(self._raw)
            raise
        try:
            yield self
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await self._roll_back(transaction)  # noqa: ASYNC102  # uncancellable and bounded inside
            raise
        await self._settle(transaction.commit)

    async def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Have `callback` called with the payload of each notification, in the Trio thread.

        It is to be brief, and must not raise: that would be the end of the session.
        """

        def notified(_connection: object, _process: int, _channel: str, payload: str) -> None:
            callback(payload)

        await self._call(lambda: self._raw.add_listener(channel, notified))

    async def wait_closed(self) -> None:
        """Wait until the session is over, whoever ends it."""
        if self.is_closed:
            return
        closed = trio.Event()

        def note_closed(_raw: object) -> None:
            closed.set()

        self._raw.add_termination_listener(note_closed)
        try:
            await closed.wait()
        finally:
            self._raw.remove_termination_listener(note_closed)

    async def reset(self) -> None:
        """Undo what a borrower may have left: an open transaction, settings, locks, listeners, a role."""
        if self.is_closed:
            raise ConnectionLost("the session is closed")
        if self.is_in_transaction:
            await self._settle(lambda: self._raw.execute("rollback"))  # asyncpg's reset makes a fuss of it
        await self._settle(lambda: self._bridge.in_task(self._raw.reset))

    def terminate(self) -> None:
        """Cut the session off at once; the server finds out by itself."""
        self._raw.terminate()

    async def aclose(self) -> None:
        """Close the session; terminates it if that takes over a second, or when cancelled."""
        if self.is_closed:
            return
        with contextlib.suppress(DatabaseError):  # either way it is closed afterwards
            await self._bridge.settle(
                self._translated(lambda: self._bridge.in_task(self._raw.close)),
                limit=CLOSE_TIMEOUT,
                give_up=self.terminate,
                on_cancel=lambda end: end(),
            )

    def _text(self, sql: str | Statement) -> str:
        if isinstance(sql, Statement):  # ours: they change nothing but for a transaction
            return sql.for_schema(self._settings.quoted_schema)
        self._may_be_changed = self._may_be_changed or may_change_session(sql)
        return sql

    async def _run(self, verb: Verb, sql: str | Statement, arguments: tuple[object, ...]) -> Any:
        try:
            return await self._statement(partial(getattr(self._raw, verb), self._text(sql), *arguments))
        except StatementFailed as error:
            if isinstance(sql, Statement):
                raise explain_refusal(error, sql, self._settings.quoted_schema) from error.__cause__
            raise

    async def _statement(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._settings.prepared_statements or self._raw.is_in_transaction():
            return await self._call(call)
        # A transaction pooler may run the two halves of a statement on different sessions otherwise.
        level = self._settings.settings.get("default_transaction_isolation")
        begin = (
            _BEGIN_BRIEFLY.replace("begin", f"begin isolation level {level}", 1) if level else _BEGIN_BRIEFLY
        )
        return await self._call(lambda: _in_transaction(self._raw, begin, call))

    async def _call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._settle(call)

    async def _settle(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        requests: list[Any] = []

        def hurry(end: Callable[[], None]) -> None:
            if self._settings.interruptible:
                request = cancel_request(self._raw, self._bridge.loop.create_future())
                if request is not None:
                    requests.append(self._bridge.start(request))
            self._bridge.loop.call_later(self.cancel_timeout, end)

        def give_up() -> None:
            self.terminate()
            for request in requests:
                request.cancel()

        async def finish() -> T:
            try:
                return await self._translated(call)
            finally:
                for request in requests:  # else it might hit the session's next statement
                    if not self.is_closed:
                        await request  # noqa: ASYNC102  # in asyncio, which settle() bounds

        try:
            return await self._bridge.settle(
                finish(), limit=self._settings.statement_timeout, give_up=give_up, on_cancel=hurry
            )
        except TimeoutError as error:
            raise ConnectionLost("the session did not answer and was given up") from error
        except DatabaseError:
            if requests:
                await trio.lowlevel.checkpoint_if_cancelled()  # the failure we asked for is no failure
            raise

    async def _translated(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await call()
        except Exception as error:
            # Terminated in the middle of a call, asyncpg stumbles over what is no longer there.
            if not (self.is_closed or isinstance(error, DRIVER_ERRORS)):
                raise
            translated = describe_statement_error(error, session_closed=self.is_closed)
            if isinstance(translated, ConnectionLost):
                self.terminate()
            raise translated from error

    async def _roll_back(self, transaction: Any) -> None:
        if self.is_closed:
            return
        try:
            await self._settle(transaction.rollback)
        except DatabaseError:
            self.terminate()  # the server rolls back when it notices


LONGEST_SILENCE = 30.0
"""How many seconds a brief transaction may be silent: what it locked does not stay so when we are cut off."""
_BEGIN_BRIEFLY = f"begin; set local idle_in_transaction_session_timeout = '{LONGEST_SILENCE}s'"
LIMIT_TRANSACTION = Statement("""
    select set_config('transaction_timeout', $1::text, true)
""")  # $1 a duration
_FIRST_WITH_TRANSACTION_TIMEOUT = 170_000


async def _in_transaction(raw: Any, begin: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    await raw.execute(begin)
    try:
        result = await call()
    except BaseException:
        if not raw.is_closed():
            await raw.execute("rollback")  # noqa: ASYNC102  # in asyncio, which settle() bounds
        raise
    await raw.execute("commit")
    return result


def adopt(connection: object, otherwise: Any, settings: SessionSettings) -> Connection:
    """Wrap a bare asyncpg connection of the caller's, whose transaction stays the caller's.

    It belongs to the asyncio loop that is open here, or else to the other one. Raises `TypeError` for
    anything but a connection.
    """
    if isinstance(connection, Connection):
        return connection
    if not isinstance(connection, (asyncpg.Connection, asyncpg.pool.PoolConnectionProxy)):
        raise TypeError(f"an asyncpg or trio_graphile connection is needed, not {connection!r}")
    return Connection(connection, bridge_here(otherwise), settings)
