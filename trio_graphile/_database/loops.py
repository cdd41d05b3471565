"""The asyncio loops on Trio: one for our sessions, which is nobody else's, and one for users' asyncio code.

Whatever a library does in the loop of users, our sessions go on. And what is made quicker in ours concerns
our own sockets only.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # with `bridge`, this is the way to asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import trio

from trio_graphile._database.driver.libraries import trio_asyncio
from trio_graphile._model.groups import leaves

TrioAsyncioExit: type[SystemExit] = trio_asyncio._base.TrioAsyncioExit  # noqa: SLF001  # as above
logger = logging.getLogger("trio_graphile.database")

_RESOLVERS = 16
"""How many names may be looked up at a time, each in a thread."""

# A KeyboardInterrupt in the middle of asyncpg's compiled code crashes the interpreter, and in the middle of
# the loop's leaves everybody waiting for ever. Protected, it reaches Trio's main task at a checkpoint.
for _runs_callbacks in ("_io_task", "_main_loop", "_main_loop_one", "_main_loop_exit"):
    trio.lowlevel.enable_ki_protection(getattr(trio_asyncio.TrioEventLoop, _runs_callbacks))


class PromptFuture(asyncio.Future[Any]):
    """A future that calls somebody when it is done, at once and not when the loop comes to its callbacks.

    asyncpg has a callback, too, with which it does nothing unless the future was cancelled, or has a timeout.
    Called at once, it does not cost a turn of the loop for each statement.
    """

    on_done: Callable[[], None] | None = None
    _asyncpgs: Callable[[Any], object] | None = None

    def add_done_callback(self, callback: Callable[[Any], object], /, *, context: Any = None) -> None:
        if getattr(callback, "__name__", None) == "_on_waiter_completed":
            self._asyncpgs = callback
        else:
            super().add_done_callback(callback, context=context)

    def set_result(self, result: Any) -> None:
        super().set_result(result)
        self._tell()

    def set_exception(self, exception: Any) -> None:
        super().set_exception(exception)
        self._tell()

    def cancel(self, msg: Any = None) -> bool:
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            self._tell()
        return is_cancelled

    def _tell(self) -> None:
        if self._asyncpgs is not None:
            self._asyncpgs(self)
        if self.on_done is not None:
            self.on_done()


@trio.lowlevel.enable_ki_protection
async def _watch(_loop: Any, file: Any, handle: Any, wait_ready: Callable[[Any], Awaitable[None]]) -> None:
    """Call a handle whenever its file is ready.

    trio-asyncio's own also waits, after each call, until the loop has come to all its callbacks: a third of
    what a statement costs. asyncpg's reads at once what there is, so there is nothing to wait for. A handle
    that leaves that to a callback of its own would be called once too often: so this is for our loop alone.
    """
    with handle._scope:  # noqa: SLF001  # as above
        try:
            while not handle.cancelled():
                try:
                    await wait_ready(file)
                except OSError:
                    if not handle.cancelled():  # else it is gone, and nobody cares any more
                        raise
                if not handle.cancelled():
                    handle._run()  # noqa: SLF001  # as above
        except Exception as error:  # noqa: BLE001  # the loop's handler says what becomes of it
            handle._raise(error)  # noqa: SLF001  # as above


class _Resolver(trio_asyncio.TrioExecutor):  # type: ignore[misc]  # untyped
    """Looks names up in threads that nobody waits for once the session is not wanted any more.

    A resolver whose name servers are out of reach may take 20 seconds, and cannot be interrupted.
    """

    async def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(
            function, *arguments, abandon_on_cancel=True, limiter=self._limiter
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
        await trio_asyncio.TrioEventLoop._main_loop_one(loop, no_wait)  # noqa: SLF001  # the version is pinned
    except TrioAsyncioExit:  # a SystemExit, too: that is how a loop is told to end
        raise
    except SystemExit as error:
        loop.call_exception_handler({"message": "asyncio code wanted to exit", "exception": error})


def _note_transports(loop: Any) -> weakref.WeakSet[Any]:
    """Return what will hold the connections of a loop, for as long as they are there.

    Attempts to connect may be under way when the loop ends. Cut short in TLS, they would leave theirs to the
    garbage collector.
    """
    transports: weakref.WeakSet[Any] = weakref.WeakSet()
    make = loop._make_socket_transport  # noqa: SLF001  # as `_io_task` below

    def make_and_note(*arguments: Any, **options: Any) -> Any:
        transport = make(*arguments, **options)
        transports.add(transport)
        return transport

    loop._make_socket_transport = make_and_note  # noqa: SLF001  # as above
    return transports


@contextlib.asynccontextmanager
async def open_private_loop() -> AsyncIterator[Any]:
    """Open the loop of our sessions. The body does not see it; to run code in it is up to a `Bridge`."""
    before = trio_asyncio.current_loop.get()
    async with _open_loop() as loop:
        loop.create_future = partial(PromptFuture, loop=loop)
        loop._io_task = partial(_watch, loop)  # noqa: SLF001  # there is no other way; the version is pinned
        loop.set_default_executor(_Resolver(trio.CapacityLimiter(_RESOLVERS)))
        loop.set_exception_handler(_log_unless_given_up)
        transports = _note_transports(loop)
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
        loop._main_loop_one = partial(_survive, loop)  # noqa: SLF001  # as above
        await loop.synchronize()  # the turn that had begun was its last without
        yield loop


def loop_here() -> Any | None:
    """Return the loop that is open here, if one is: in this run of Trio, which a thread may not share."""
    loop = trio_asyncio.current_loop.get()
    if loop is None or not loop.is_running():
        return None
    # A thread inherits the context of the Trio task that has started it, and may run a Trio of its own.
    return loop if loop._token is trio.lowlevel.current_trio_token() else None  # noqa: SLF001  # as above


@contextlib.asynccontextmanager
async def _open_loop() -> AsyncIterator[Any]:
    """Open a loop; what the body raises is raised, without the groups that trio-asyncio wraps it in."""
    body_error: BaseException | None = None
    try:
        async with trio_asyncio.open_loop() as loop:
            try:
                yield loop
            except BaseException as error:
                body_error = error
                raise
    except BaseExceptionGroup as group:
        if body_error is not None and set(leaves(group)) == set(leaves(body_error)):
            raise body_error from body_error.__cause__
        raise
