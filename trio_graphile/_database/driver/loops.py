"""The asyncio loops on Trio: one for our sessions, which is nobody else's, and one for users' asyncio code.

Whatever a library does in the loop of users, our sessions go on. And what is made quicker in ours concerns
our own sockets only. A loop that users open with trio-asyncio is left as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import trio

from trio_graphile._database.driver.futures import PromptFuture
from trio_graphile._database.driver.libraries import trio_asyncio
from trio_graphile._database.driver.shortcuts import (
    ANSWERS,
    OWN_RUN,
    PROTECTION,
    READING,
    SURVIVAL,
    TRANSPORTS,
    is_on,
)
from trio_graphile._model.groups import leaves

logger = logging.getLogger("trio_graphile.database")

_RESOLVERS = 16
"""How many names may be looked up at a time, each in a thread."""


class _ProtectedLoop(trio_asyncio.TrioEventLoop):  # type: ignore[misc]  # untyped
    """A loop that no KeyboardInterrupt is raised in: it reaches Trio's main task at a checkpoint."""

    @trio.lowlevel.enable_ki_protection
    async def _main_loop(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await super()._main_loop(task_status)

    @trio.lowlevel.enable_ki_protection
    async def _main_loop_exit(self) -> None:
        await super()._main_loop_exit()

    @trio.lowlevel.enable_ki_protection
    async def _io_task(self, fd: Any, handle: Any, wait_ready: Any) -> None:
        await super()._io_task(fd, handle, wait_ready)


def _opening_of(loop_class: Any) -> Callable[[], contextlib.AbstractAsyncContextManager[Any]]:
    """Return trio-asyncio's `open_loop`, but for loops of another class."""
    opening = trio_asyncio.open_loop.__wrapped__
    names = {**opening.__globals__, "TrioEventLoop": loop_class}
    return contextlib.asynccontextmanager(
        types.FunctionType(opening.__code__, names, opening.__name__, opening.__defaults__)
    )


@trio.lowlevel.enable_ki_protection
async def _watch(_loop: Any, file: Any, handle: Any, wait_ready: Callable[[Any], Awaitable[None]]) -> None:
    """Call a handle whenever its file is ready.

    trio-asyncio's own also waits, after each call, until the loop has come to all its callbacks. asyncpg's
    reads at once what there is, so there is nothing to wait for. A handle that leaves that to a callback of
    its own would be called once too often: so this is for our loop alone.
    """
    with handle._scope:
        try:
            while not handle.cancelled():
                try:
                    await wait_ready(file)
                except OSError:
                    if not handle.cancelled():  # else it is gone, and nobody cares any more
                        raise
                if not handle.cancelled():
                    handle._run()
        except Exception as error:  # noqa: BLE001  # the loop's handler says what becomes of it
            handle._raise(error)


class _Resolver(trio_asyncio.TrioExecutor):  # type: ignore[misc]  # untyped
    """Looks names up in threads that nobody waits for once the session is not wanted any more.

    A resolver whose name servers are out of reach may take 20 seconds, and cannot be interrupted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._resolving = trio.CapacityLimiter(_RESOLVERS)

    async def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(
            function, *arguments, abandon_on_cancel=True, limiter=self._resolving
        )


def _log(loop: Any, context: dict[str, Any]) -> None:
    """Log what asyncio would log. trio-asyncio's own handler ends the loop, and with it everybody's work."""
    asyncio.BaseEventLoop.default_exception_handler(loop, context)


def _log_unless_given_up(loop: Any, context: dict[str, Any]) -> None:
    """Log as asyncio would, but for the errors of attempts to connect that nobody waits for any more.

    asyncpg leaves futures behind when a connect is over before its TLS is negotiated.
    """
    error = context.get("exception")
    if isinstance(error, OSError):
        logger.debug("nobody waits for what failed: %s", error)
    else:
        _log(loop, context)


async def _survive(loop: Any, no_wait: bool = False) -> None:  # noqa: FBT001, FBT002  # as it is called
    """Do one thing of a loop; a callback that raises SystemExit ends only itself."""
    try:
        await trio_asyncio.TrioEventLoop._main_loop_one(loop, no_wait)
    except trio_asyncio._base.TrioAsyncioExit:  # a SystemExit, too: that is how a loop is told to end
        raise
    except SystemExit as error:
        loop.call_exception_handler({"message": "asyncio code wanted to exit", "exception": error})


def _note_transports(loop: Any, transports: weakref.WeakSet[Any]) -> None:
    """Have a set hold the connections of a loop, for as long as they are there."""
    make = loop._make_socket_transport

    def make_and_note(*arguments: Any, **options: Any) -> Any:
        transport = make(*arguments, **options)
        transports.add(transport)
        return transport

    loop._make_socket_transport = make_and_note


@contextlib.asynccontextmanager
async def open_private_loop() -> AsyncIterator[Any]:
    """Open the loop of our sessions. The body does not see it; to run code in it is up to a `Bridge`."""
    before = trio_asyncio.current_loop.get()
    async with _open_loop() as loop:
        if is_on(ANSWERS):
            loop.create_future = partial(PromptFuture, loop=loop)
        if is_on(READING):
            loop._io_task = partial(_watch, loop)
        transports: weakref.WeakSet[Any] = weakref.WeakSet()
        if is_on(TRANSPORTS):
            _note_transports(loop, transports)
        loop.set_default_executor(_Resolver())
        loop.set_exception_handler(_log_unless_given_up)
        token = trio_asyncio.current_loop.set(before)
        try:
            yield loop
        finally:
            trio_asyncio.current_loop.reset(token)
            for transport in tuple(transports):
                transport.abort()


@contextlib.asynccontextmanager
async def open_loop_for_users() -> AsyncIterator[Any]:
    """Use the loop that is open here, or open one for as long as the body lasts."""
    loop = loop_here()
    if loop is not None:
        yield loop
        return
    async with _open_loop() as loop:
        loop.set_exception_handler(_log)
        if is_on(SURVIVAL):
            loop._main_loop_one = partial(_survive, loop)
            await loop.synchronize()  # the turn that had begun was its last without
        yield loop


def loop_here() -> Any | None:
    """Return the loop that is open here, if one is: in this run of Trio, which a thread may not share."""
    loop = trio_asyncio.current_loop.get()
    if loop is None or not loop.is_running():
        return None
    # A thread inherits the context of the Trio task that has started it, and may run a Trio of its own.
    if is_on(OWN_RUN) and loop._token is not trio.lowlevel.current_trio_token():
        return None
    return loop


@contextlib.asynccontextmanager
async def _open_loop() -> AsyncIterator[Any]:
    """Open a loop; what the body raises is raised, without the groups that trio-asyncio wraps it in."""
    body_error: BaseException | None = None
    opening = _opening_of(_ProtectedLoop) if is_on(PROTECTION) else trio_asyncio.open_loop
    try:
        async with opening() as loop:
            try:
                yield loop
            except BaseException as error:
                body_error = error
                raise
    except BaseExceptionGroup as group:
        if body_error is not None and set(leaves(group)) == set(leaves(body_error)):
            raise body_error from body_error.__cause__
        raise
