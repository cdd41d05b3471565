"""The bridge to asyncio: the only module that knows trio_asyncio."""

from __future__ import annotations

import asyncio  # noqa: TID251  # this is the bridge
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

import attrs
import trio
import trio_asyncio  # type: ignore[import-untyped]  # trio-asyncio has no py.typed

from trio_graphile._exceptions import leaves

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A KeyboardInterrupt in the middle of asyncpg's compiled code crashes the interpreter, and in the middle of
# the loop's leaves everybody waiting for ever. Protected, it reaches Trio's main task at a checkpoint.
for _runs_callbacks in ("_io_task", "_main_loop", "_main_loop_one", "_main_loop_exit"):
    trio.lowlevel.enable_ki_protection(getattr(trio_asyncio.TrioEventLoop, _runs_callbacks))

LAST_RESORT = 1.0
"""What a call gets to end after its socket was aborted, before it is cancelled, too. In seconds."""


class _PromptFuture(asyncio.Future[Any]):
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


@attrs.frozen
class Bridge:
    """A running asyncio loop, and the context in which asyncio code finds it."""

    loop: Any
    context: contextvars.Context

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        """Start an asyncio task, from whichever Trio task we are in."""
        return self.loop.create_task(coroutine, context=self.context.copy())

    async def run(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Run a user's asyncio function with the caller's context variables; cancel it with the caller."""
        await trio.lowlevel.checkpoint_if_cancelled()

        async def call() -> T:
            return await function(*args)

        context = contextvars.copy_context()
        context.run(trio_asyncio.current_loop.set, self.loop)
        task = self.loop.create_task(call(), context=context)
        return await trio_asyncio.run_aio_future(task)  # type: ignore[no-any-return]  # untyped

    async def in_task(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run asyncio code that must be in an asyncio task, for `settle`: what sets a timeout, say."""
        return await self.start(function())  # type: ignore[no-any-return]  # trio-asyncio is untyped

    @trio.lowlevel.enable_ki_protection
    async def settle(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        limit: float,
        give_up: Callable[[Any], None],
        on_cancel: Callable[[Callable[[], None]], None],
    ) -> T:
        """Run asyncio code to its end, whatever happens to the Trio scope around it.

        After `limit` seconds `give_up` is called with the asyncio future that it waits for and must make it
        end; `TimeoutError` if even that fails. A cancellation calls `on_cancel` with a function that does
        the same, for it to call when its patience ends.

        The code runs in our Trio task, which waits for its futures, not in an asyncio task: that would take
        three more turns of the event loops, and first of all one before anything is sent.
        """
        trio_task = trio.lowlevel.current_task()
        future: Any = None
        is_hurried = False

        def end() -> None:
            if future is not None and not future.done():
                give_up(future)
                self.loop.call_later(LAST_RESORT, lambda: future is not None and future.cancel())

        def abort(_: object) -> trio.lowlevel.Abort:
            nonlocal is_hurried
            if not self.loop.is_running():  # crashed, by a KeyboardInterrupt say: no answer will ever come
                return trio.lowlevel.Abort.SUCCEEDED
            if trio.current_time() >= scope.deadline:
                end()
            elif not (is_hurried or future.done()):  # if done, its answer is there and about to wake us
                is_hurried = True
                on_cancel(end)
            return trio.lowlevel.Abort.FAILED

        try:
            # As `move_on_after`, for less; never a shield.
            with trio.CancelScope(deadline=trio.current_time() + limit) as scope:  # noqa: TID251
                while True:
                    future = self.context.run(coroutine.send, None)
                    future._asyncio_future_blocking = False  # noqa: SLF001  # as whoever awaits one has to say
                    if isinstance(future, _PromptFuture):
                        future.on_done = partial(trio.lowlevel.reschedule, trio_task)
                    else:
                        future.add_done_callback(lambda _: trio.lowlevel.reschedule(trio_task))
                    await trio.lowlevel.wait_task_rescheduled(abort)
            raise TimeoutError("the loop is dead")
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # so are coroutines, in this respect
        except asyncio.CancelledError:
            raise TimeoutError("given up") from None  # noqa: ASYNC104  # asyncio's cancellation, not Trio's
        finally:
            future = None
            coroutine.close()


@trio.lowlevel.enable_ki_protection
async def _watch(_loop: Any, file: Any, handle: Any, wait_ready: Callable[[Any], Awaitable[None]]) -> None:
    """Call a handle whenever its file is ready.

    trio-asyncio's own also waits, after each call, until the loop has come to all its callbacks: a third of
    what a statement costs. asyncpg's reads at once what there is, so there is nothing to wait for; one that
    leaves that to a callback of its own is called once too often.
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


@contextlib.asynccontextmanager
async def open_bridge() -> AsyncIterator[Bridge]:
    """Use the asyncio loop that is open here, or open one for as long as the body lasts."""
    loop = trio_asyncio.current_loop.get()
    if loop is not None and loop.is_running():
        yield Bridge(loop, contextvars.copy_context())
        return
    body_error: BaseException | None = None
    try:
        async with trio_asyncio.open_loop() as loop:
            loop.create_future = partial(_PromptFuture, loop=loop)
            loop._io_task = partial(_watch, loop)  # noqa: SLF001  # there is no other way; the version is pinned
            try:
                yield Bridge(loop, contextvars.copy_context())
            except BaseException as error:
                body_error = error
                raise
    except BaseExceptionGroup as group:
        # open_loop wraps whatever its body raises in groups of its own.
        if body_error is not None and set(leaves(group)) == set(leaves(body_error)):
            raise body_error from body_error.__cause__
        raise


def bridge_here(otherwise: Bridge) -> Bridge:
    """Return the bridge to the asyncio loop that is open here, or the other one."""
    loop = trio_asyncio.current_loop.get()
    return otherwise if loop is None else Bridge(loop, contextvars.copy_context())
