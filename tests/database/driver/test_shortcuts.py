"""The shortcuts: each notices when what it relies on has changed, and there is a way without it."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what the shortcuts rely on
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import trio
import trio_asyncio  # type: ignore[import-untyped]

from tests.database.sessions import wait_until_active
from trio_graphile import Database, DatabaseOptions, open_database
from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.driver import shortcuts
from trio_graphile._database.driver.shortcuts import FOR_MORE, FOR_SPEED, Shortcut
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import ConnectionLost

pytestmark = pytest.mark.everywhere  # they rely on what Python keeps private

ROOT = Path(__file__).parents[3]
ALL = (*FOR_SPEED, *FOR_MORE)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Take the shortcuts again that the run of the tests takes."""
    taken = [shortcut for shortcut in ALL if shortcuts.is_on(shortcut)]
    yield
    shortcuts.turn_on(*taken)


# --- what they rely on --------------------------------------------------------------------------


class Nothing:
    """Has none of the private parts."""


async def takes_others(self: object, wanted: int, /, *, otherwise: int) -> None:
    """Take other arguments than expected."""


class Awaited(asyncio.Future[Any]):
    def __await__(self) -> Any:
        yield None


loop, session = trio_asyncio.TrioEventLoop, asyncpg.Connection
CHANGES: list[tuple[Shortcut, Any, str, Any]] = [
    (shortcuts.PROTECTION, trio_asyncio, "open_loop", contextlib.nullcontext),
    (shortcuts.PROTECTION, loop, "_main_loop", takes_others),
    (shortcuts.PROTECTION, loop, "_main_loop_exit", takes_others),
    (shortcuts.PROTECTION, loop, "_io_task", takes_others),
    (shortcuts.READING, loop, "_io_task", takes_others),
    (shortcuts.READING, trio_asyncio._base, "ScopedHandle", Nothing),
    (shortcuts.ANSWERS, asyncpg.protocol, "Protocol", Nothing),
    (shortcuts.STEPS, asyncio, "Future", Awaited),
    (shortcuts.TRANSPORTS, loop, "_make_socket_transport", takes_others),
    (shortcuts.SURVIVAL, loop, "_main_loop_one", takes_others),
    (shortcuts.SURVIVAL, trio_asyncio, "_base", Nothing),
    (shortcuts.OWN_RUN, trio_asyncio, "TrioEventLoop", Nothing),
    (shortcuts.NOTIFICATIONS, session, "_process_notification", takes_others),
    (shortcuts.NOTIFICATIONS, asyncpg, "Connection", Nothing),
    (shortcuts.NOTIFICATIONS, asyncpg.connection, "_Callback", Nothing),
    (shortcuts.CANCEL_REQUESTS, session, "_cancel", takes_others),
    (shortcuts.PREPARATION, session, "_get_statement", takes_others),
    (shortcuts.REFUSED_BEGINS, asyncpg, "Connection", Nothing),
    (shortcuts.SOCKETS, asyncpg, "Connection", Nothing),
]


@pytest.mark.parametrize(
    "change",
    CHANGES,
    ids=[f"{shortcut.name}-{name}" for shortcut, _, name, _ in CHANGES],
)
def test_a_shortcut_is_not_taken_when_what_it_relies_on_has_changed(
    change: tuple[Shortcut, Any, str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shortcut, owner, name, changed = change
    shortcuts.turn_on(shortcut)
    assert shortcuts.is_on(shortcut)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, changed)
        shortcuts.turn_on(shortcut)
        assert not shortcuts.is_on(shortcut)
    [record] = caplog.records
    assert f"the shortcut {shortcut.name} is not taken: " in record.message
    assert f"asyncpg {asyncpg.__version__}" in record.message
    assert shortcut.without in record.message


def test_each_shortcut_has_a_change_above() -> None:
    assert {shortcut for shortcut, *_ in CHANGES} == set(ALL)
    assert len({shortcut.name for shortcut in ALL}) == len(ALL)


# --- the ways without them ----------------------------------------------------------------------


async def use(database: Database) -> None:
    """Do a little of all that there are shortcuts for."""
    assert [await database.fetch_value("select $1::integer", n) for n in range(5)] == [*range(5)]
    assert await database.run_asyncio(asyncio.sleep, 0, "slept") == "slept"
    send, receive = trio.open_memory_channel[str](10)
    async with database.connection() as connection:
        await connection.listen("channel", send.send_nowait)
        await database.execute("select pg_notify('channel', 'hello')")
        assert await receive.receive() == "hello"
    async with brief_transaction(database, statements=[Statement("select 1")]) as connection:
        await connection.execute(Statement("select 1"))
    await cancel_a_statement(database)
    assert await database.fetch_value("select 42") == 42


async def cancel_a_statement(database: Database) -> None:
    database.cancel_timeout = 0.2
    async with trio.open_nursery() as nursery:

        async def sleep() -> None:
            with contextlib.suppress(ConnectionLost):
                await database.execute("select pg_sleep(60)")

        nursery.start_soon(sleep)
        await wait_until_active(database, "select pg_sleep(60)")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "turned_off",
    [(), *((shortcut,) for shortcut in ALL), ALL],
    ids=["none", *(shortcut.name for shortcut in ALL), "all"],
)
async def test_there_is_a_way_without_any(turned_off: tuple[Shortcut, ...], empty_database_url: str) -> None:
    shortcuts.turn_off(*turned_off)
    with trio.fail_after(60):
        async with open_database(empty_database_url, DatabaseOptions(pool_size=3)) as database:
            await use(database)


@pytest.mark.dealt
@pytest.mark.timeout(300)  # on a busy machine
def test_a_worker_works_without_those_for_speed(postgres: Any) -> None:
    """The worker's own tests, in a run of their own."""
    tests = ["test_asyncio.py", "test_run_once.py"]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "--without-shortcuts", "-p", "no:cacheprovider"),
            *(str(ROOT / "tests" / "worker" / name) for name in tests),
        ],
        env={**os.environ, "DATABASE_URL": postgres.url},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=280,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
