"""What a notification announces, whoever sent it; and that a session that has gone deaf is replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import pytest
import trio

from tests.faults.network import open_proxy
from trio_graphile import (
    ConnectionLost,
    Database,
    DatabaseError,
    ListenState,
    StatementFailed,
    open_database,
)
from trio_graphile._database.connection import Connection
from trio_graphile._database.listening import PROBE, Listening
from trio_graphile._database.notifications import announced_jobs
from trio_graphile._database.session import Session

pytestmark = pytest.mark.everywhere  # the bridge to asyncio relies on what Python keeps private


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        ('{"r":0.5,"count":3}', 3),
        ('{"r":5e-1,"count":-1}', -1),
        ('{"r":0.5,"count":0}', 0),
        ('{"r":0.5}', 1),
        ('{"count":"many"}', 1),
        ("", 1),
        ("not JSON", 1),
        ("[]", 1),
        ("null", 1),
        ('{"count":' + 7_000 * "9" + "}", 1),
        (7_000 * "[", 1),
    ],
)
def test_a_notification_that_does_not_say_how_many_means_one(payload: str, count: int) -> None:
    assert announced_jobs(payload) == count


async def unlisten(connection: Connection) -> None:
    while True:
        try:
            await connection.execute("unlisten *")
        except StatementFailed:  # the listener is using it at this moment
            await trio.lowlevel.checkpoint()
        else:
            return


@attrs.define(eq=False, kw_only=True)
class Heard(Listening):
    """Says each time that it listens, and through which session."""

    announced: trio.MemorySendChannel[Connection]

    def channels(self) -> Mapping[str, Callable[[str], None]]:
        return {}

    async def restored(self, connection: Connection) -> None:
        self.announced.send_nowait(connection)


def make_heard(database: Database, **values: Any) -> tuple[Heard, trio.MemoryReceiveChannel[Connection]]:
    """Return what asks every 20 ms whether its session lives, and a channel of the sessions it has had."""
    announced, heard = trio.open_memory_channel[Connection](100)
    settings: dict[str, Any] = {
        "echo_channel": "an:echo",
        "cancel_timeout": 1.0,
        "probe_interval": 0.02,
    } | values
    return Heard(database=database, announced=announced, **settings), heard


async def test_a_session_that_has_gone_deaf_is_replaced_and_one_that_hears_is_kept(
    database: Database,
) -> None:
    """Deaf: it lives, but what is sent through it does not come back. UNLISTEN makes it so."""
    listening, heard = make_heard(database)
    echo, echoed = trio.open_memory_channel[str](1000)
    async with database.connection() as bystander, trio.open_nursery() as nursery:
        await bystander.listen("an:echo", echo.send_nowait)
        await nursery.start(listening.run)
        first = await heard.receive()
        for _ in range(5):
            await echoed.receive()
        assert heard.statistics().current_buffer_used == 0
        await unlisten(first)
        with trio.fail_after(20):
            second = await heard.receive()
        assert second is not first
        assert first.is_closed
        nursery.cancel_scope.cancel()


@pytest.fixture
async def shared(database: Database) -> AsyncIterator[Session]:
    """Lend a session that is used for something else, too."""
    session = Session(database, "shared", 1.0)
    yield session
    await session.aclose()


async def test_a_shared_session_is_replaced_when_it_is_deaf_and_stays_open_at_the_end(
    database: Database, shared: Session
) -> None:
    listening, heard = make_heard(database, session=shared)
    async with trio.open_nursery() as nursery:
        await nursery.start(listening.run)
        first = await heard.receive()
        assert first is await shared.open()
        await unlisten(first)
        with trio.fail_after(20):
            second = await heard.receive()
        assert first.is_closed
        nursery.cancel_scope.cancel()
    assert second is await shared.open()


LAST_OF_SHARED = """
    select query
    from pg_stat_activity
    where application_name = 'trio_graphile shared' and datname = current_database()
"""


async def test_a_shared_session_is_asked_for_an_echo_only_now_and_then(
    database: Database, shared: Session
) -> None:
    """An echo wakes all who listen."""
    listening, _ = make_heard(database, session=shared)
    echo, echoed = trio.open_memory_channel[str](1000)
    async with database.connection() as bystander, trio.open_nursery() as nursery:
        await bystander.listen("an:echo", echo.send_nowait)
        await nursery.start(listening.run)
        await echoed.receive()
        with trio.fail_after(20):
            while await bystander.fetch_value(LAST_OF_SHARED) != PROBE:  # noqa: ASYNC110  # nobody is told
                await trio.lowlevel.checkpoint()
        await echoed.receive()
        nursery.cancel_scope.cancel()


async def test_a_shared_session_that_does_not_answer_is_replaced(database_url: str) -> None:
    async with open_proxy(database_url) as proxy, open_database(proxy.url) as beyond:
        shared = Session(beyond, "shared", 0.1)
        listening, heard = make_heard(beyond, cancel_timeout=0.1, probe_timeout=0.1, session=shared)
        async with trio.open_nursery() as nursery:
            await nursery.start(listening.run)
            first = await heard.receive()
            proxy.freeze()
            with trio.fail_after(20):
                second = await heard.receive()
            nursery.cancel_scope.cancel()
        assert first.is_closed
        assert second is await shared.open()
        await shared.aclose()


async def test_a_shared_session_is_not_asked_for_an_echo_while_a_statement_runs_there(
    database: Database, shared: Session
) -> None:
    """However long that takes: an echo could not come back before."""
    turn = trio.Lock()
    listening, heard = make_heard(database, probe_timeout=0.02, session=shared, turn=turn)
    echo, echoed = trio.open_memory_channel[str](1000)
    async with database.connection() as bystander, trio.open_nursery() as nursery:
        await bystander.listen("an:echo", echo.send_nowait)
        await nursery.start(listening.run)
        first = await heard.receive()
        async with turn:
            while not turn.statistics().tasks_waiting:  # noqa: ASYNC110  # a lock tells nobody who waits
                await trio.lowlevel.checkpoint()
            await first.execute("select pg_sleep(0.1)")
        for _ in range(2):
            await echoed.receive()
        nursery.cancel_scope.cancel()
    assert first is await shared.open()


@attrs.define(eq=False, kw_only=True)
class Failing(Listening):
    """Cannot look for what nobody has heard."""

    states: list[ListenState] = attrs.field(factory=list)
    failed: trio.Event = attrs.field(factory=trio.Event)

    def channels(self) -> Mapping[str, Callable[[str], None]]:
        return {}

    async def restored(self, _connection: Connection) -> None:
        self.states.append(self.state)
        raise ConnectionLost("the session was closed")

    def lost(self, _error: DatabaseError, _delay: float) -> None:
        self.states.append(self.state)
        self.failed.set()


async def test_a_session_listens_only_once_it_has_looked_for_what_nobody_has_heard(
    database: Database,
) -> None:
    listening = Failing(database=database, echo_channel="an:echo", cancel_timeout=1.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(listening.run)
        with trio.fail_after(20):
            await listening.failed.wait()
        nursery.cancel_scope.cancel()
    assert listening.states[:2] == [ListenState.CONNECTING, ListenState.LOST]
