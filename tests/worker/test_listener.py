"""What a notification announces, whoever sent it."""

from __future__ import annotations

import pytest
import trio

from trio_graphile import Database, StatementFailed
from trio_graphile._database.connection import Connection
from trio_graphile._worker.listener import Listener, announced_jobs


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


async def test_a_session_that_has_gone_deaf_is_replaced_and_one_that_hears_is_kept(
    database: Database,
) -> None:
    """Deaf: it lives, but what is sent through it does not come back. UNLISTEN makes it so."""
    opened: list[Connection] = []
    announced, heard = trio.open_memory_channel[int](100)

    async def open_session() -> Connection:
        opened.append(await database.open_session("listen", cancel_patience=1.0))
        return opened[-1]

    listener = Listener(
        open=open_session,
        on_jobs=announced.send_nowait,
        on_breaking_migration=lambda: None,
        on_cancellation=lambda: None,
        cancel_channel="a:cancellation",
        echo_channel="an:echo",
        echo_interval=0.02,
        echo_patience=1.0,
    )
    echo, echoed = trio.open_memory_channel[str](1000)
    async with database.connection() as bystander, trio.open_nursery() as nursery:
        await bystander.listen("an:echo", echo.send_nowait)
        await nursery.start(listener.run)
        assert await heard.receive() == 1  # whatever was added before it listened
        for _ in range(5):
            await echoed.receive()
        assert len(opened) == 1
        await unlisten(opened[0])
        with trio.fail_after(20):
            assert await heard.receive() == 1
        assert len(opened) == 2
        assert opened[0].is_closed
        nursery.cancel_scope.cancel()
