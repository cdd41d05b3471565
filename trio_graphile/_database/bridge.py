"""The bridge to asyncio: how a Trio task runs code of asyncio's, and what its cancellation does to that."""

from __future__ import annotations

import asyncio  # noqa: TID251  # to know its cancellation
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

import attrs
import trio

from trio_graphile._database.driver.futures import call_when_done, step
from trio_graphile._database.driver.libraries import trio_asyncio
from trio_graphile._database.driver.loops import loop_here, open_private_loop
from trio_graphile._database.driver.shortcuts import STEPS, is_on

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LAST_RESORT = 1.0
"""What a call gets to end after its socket was aborted, before it is cancelled, too. In seconds."""


@attrs.frozen
class Bridge:
    """A running asyncio loop, and the context in which asyncio code is run."""

    loop: Any
    context: contextvars.Context = attrs.field(factory=contextvars.copy_context)
    steps: bool = attrs.field(factory=partial(is_on, STEPS))
    _tasks: set[Any] = attrs.field(factory=set)
    """What was started and has not ended: a loop itself would let go of it."""

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        """Start an asyncio task, from whichever Trio task we are in. It ends with the loop at the latest."""
        task = self.loop.create_task(coroutine, context=self.context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def in_task(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run asyncio code that must be in an asyncio task, for `settle`: what sets a timeout, say."""
        return await self.start(function())  # type: ignore[no-any-return]  # trio-asyncio is untyped

    @trio.lowlevel.enable_ki_protection
    async def settle(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        limit: float,
        give_up: Callable[[], None],
        on_cancel: Callable[[Callable[[], None]], None],
    ) -> T:
        """Run asyncio code to its end, whatever happens to the Trio scope around it.

        After `limit` seconds `give_up` is called and must make it end; `TimeoutError` if even that fails. A
        cancellation calls `on_cancel` with a function that does the same, to be called when no time is left.

        The code runs in our Trio task, which waits for its futures, if `steps`; else in an asyncio task.
        """
        wake = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())
        future: Any = None
        is_hurried = False

        def end() -> None:
            if future is not None and not future.done():
                give_up()
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
                while self.steps:
                    future = step(self.loop, self.context, coroutine)
                    call_when_done(future, wake)
                    await trio.lowlevel.wait_task_rescheduled(abort)
                future = self.start(coroutine)
                call_when_done(future, wake)
                await trio.lowlevel.wait_task_rescheduled(abort)
                return future.result()  # type: ignore[no-any-return]  # trio-asyncio is untyped
            raise TimeoutError("the loop is dead")
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # so are coroutines, in this respect
        except asyncio.CancelledError:
            raise TimeoutError("given up") from None  # noqa: ASYNC104  # asyncio's cancellation, not Trio's
        finally:
            future = None
            coroutine.close()


@contextlib.asynccontextmanager
async def open_bridge() -> AsyncIterator[Bridge]:
    """Open a bridge to a loop of its own, for as long as the body lasts."""
    async with open_private_loop() as loop:
        yield Bridge(loop)


def bridge_here(otherwise: Any) -> Bridge:
    """Return a bridge to the loop that is open here, or to the other loop."""
    loop = loop_here()
    return Bridge(otherwise if loop is None else loop)


async def run_in(loop: Any, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
    """Run a user's asyncio function with the caller's context variables; cancel it with the caller."""
    await trio.lowlevel.checkpoint_if_cancelled()

    async def call() -> T | SystemExit:
        try:
            return await function(*args)
        except SystemExit as error:
            return error  # raised in an asyncio task, it would end the loop instead of its caller

    context = contextvars.copy_context()
    context.run(trio_asyncio.current_loop.set, loop)
    result = await trio_asyncio.run_aio_future(loop.create_task(call(), context=context))
    if isinstance(result, SystemExit):
        raise result
    return result  # type: ignore[no-any-return]  # untyped
