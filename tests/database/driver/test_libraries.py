"""What importing us changes: trio-asyncio works on every Python, and programs on asyncio notice nothing."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what is not to be changed
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio_asyncio  # type: ignore[import-untyped]

from trio_graphile import Database, open_database

pytestmark = pytest.mark.everywhere  # what a library keeps private is another with another Python

IMPORT = "import trio_graphile; trio_graphile.Worker\n"

LOOK_AROUND = """
    import asyncio, asyncio.events, sys, threading, warnings

    warnings.simplefilter("ignore")
    if "us" in sys.argv:
        import trio_graphile; trio_graphile.Worker

    async def look():
        print(type(asyncio.get_running_loop()).__qualname__, type(asyncio.get_running_loop()).__module__)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(42)", stdout=-1)
        print((await process.communicate())[0], process.returncode)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.to_thread(threading.get_ident))
        print(task.result() == threading.get_ident(), asyncio.current_task() in asyncio.all_tasks())

    asyncio.run(look())
    thread = threading.Thread(target=asyncio.run, args=(look(),))
    thread.start()
    thread.join(20)
    with asyncio.Runner() as runner:
        runner.run(look())
    policy = asyncio.get_event_loop_policy()
    print(type(policy).__qualname__, type(asyncio.new_event_loop()).__module__)

    class Policy(type(policy)):
        def new_event_loop(self):
            print("a loop of the user's policy")
            return super().new_event_loop()

    asyncio.set_event_loop_policy(Policy())
    print(type(asyncio.get_event_loop_policy()).__qualname__)
    asyncio.run(look())
    asyncio.set_event_loop_policy(None)
    print(type(asyncio.get_event_loop_policy()).__qualname__)
    asyncio.run(look())
    for module in (asyncio, asyncio.events, asyncio.Handle, asyncio.TimerHandle, asyncio.Future):
        print(module, sorted(vars(module)))
    print(asyncio.Handle._run.__module__, hasattr(asyncio, "AbstractChildWatcher"))
"""


def run_python(program: str, *arguments: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, *arguments[:-1], "-c", textwrap.dedent(program), *arguments[-1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


def test_importing_us_is_silent_whatever_is_deprecated() -> None:
    assert run_python(IMPORT, "-W", "error", "") == (0, "")


def test_a_program_that_merely_imports_us_finds_asyncio_as_it_was() -> None:
    without, with_us = run_python(LOOK_AROUND, "nobody"), run_python(LOOK_AROUND, "us")
    assert without[0] == 0
    assert with_us == without


def test_a_python_that_lacks_what_is_needed_is_a_clear_error() -> None:
    code, said = run_python(
        """
        import asyncio.events
        vars(asyncio.events).pop("BaseDefaultEventLoopPolicy", None)
        vars(asyncio.events).pop("_BaseDefaultEventLoopPolicy", None)
        import trio_graphile; trio_graphile.Worker
        """,
        "",
    )
    assert code == 1
    last = said.splitlines()[-1]
    assert last.startswith("ImportError: trio-asyncio cannot be used: AttributeError: ")
    assert f"(Python {sys.version.split()[0]}, trio 0." in last


# --- in Trio ------------------------------------------------------------------------------------


async def look_around() -> list[Any]:
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(42)", stdout=-1)
    output, _ = await process.communicate()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        echo = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*echo.sockets[0].getsockname())
        writer.write(b"hello\n")
        line = group.create_task(reader.readline())
    writer.close()
    await writer.wait_closed()
    echo.close()
    await echo.wait_closed()
    return [loop, output, line.result(), asyncio.current_task() is not None]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(20):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def is_protected() -> bool:
    await asyncio.sleep(0)
    return trio.lowlevel.currently_ki_protected()


async def test_asyncio_code_finds_its_loop_running_and_all_of_asyncio(database: Database) -> None:
    with trio.fail_after(30):
        _, output, line, is_in_task = await database.run_asyncio(look_around)
        assert (output, line, is_in_task) == (b"42\n", b"hello\n", True)
        assert await database.run_asyncio(is_protected)


async def test_a_loop_that_a_user_opens_around_ours_is_trio_asyncios_own(database_url: str) -> None:
    async with trio_asyncio.open_loop() as loop:
        with trio.fail_after(30):
            async with open_database(database_url) as database:
                assert await database.fetch_value("select 42") == 42
                assert (await database.run_asyncio(look_around))[0] is loop
                [found, *seen] = await trio_asyncio.aio_as_trio(look_around)()
                assert await database.fetch_value("select 42") == 42
            assert found is loop
            assert seen == [b"42\n", b"hello\n", True]
            assert (await trio_asyncio.aio_as_trio(look_around)())[0] is loop
            assert not await trio_asyncio.aio_as_trio(is_protected)()
        assert type(loop) is trio_asyncio.TrioEventLoop
        assert type(loop.create_future()) is asyncio.Future


def use(
    url: str, meet: Callable[[], object], function: Callable[[], Awaitable[list[Any]]] = look_around
) -> Callable[[], Awaitable[list[Any]]]:
    async def run() -> list[Any]:
        async with open_database(url) as database:
            meet()
            numbers = [await database.fetch_value("select $1::integer", n) for n in range(50)]
            _, *seen = await database.run_asyncio(function)
        return [sum(numbers), *seen]

    return run


EXPECTED = [1225, b"42\n", b"hello\n", True]


def test_two_threads_may_each_run_a_trio(postgres: Any) -> None:
    both = threading.Barrier(2, timeout=20)
    found: list[Any] = []

    def run() -> None:
        found.append(trio.run(use(postgres.url, both.wait)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [EXPECTED, EXPECTED]


async def look_briefly() -> list[Any]:
    """Before Python 3.14, what asyncio asks C for (in `gather`, say) is the host's loop."""
    await asyncio.sleep(0.001)
    return [asyncio.get_running_loop(), *EXPECTED[1:]]


def test_a_guest_of_asyncio_leaves_its_host_alone(postgres: Any) -> None:
    """The host is a loop of asyncio's, whose tasks and timeouts go on between the steps of Trio."""

    async def host() -> tuple[Any, int]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            use(postgres.url, int, look_around if sys.version_info >= (3, 14) else look_briefly),
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        turns = 0
        while not ended.done():
            async with asyncio.timeout(30):
                await asyncio.sleep(0.001)
            assert asyncio.get_running_loop() is loop
            task = asyncio.create_task(look_around())
            assert (await task)[0] is loop
            turns += 1
        return ended.result().unwrap(), turns

    result, turns = asyncio.run(host())
    assert result == EXPECTED
    assert turns > 0
