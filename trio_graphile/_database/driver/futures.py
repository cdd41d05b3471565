"""How a Trio task runs asyncio's code and waits for its futures, without a task of asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from trio_graphile._database.driver.libraries import LOOP_IS_CHECKED, call_in


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


def step(loop: Any, context: Context, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run asyncio code up to the future that it waits for next. Raises `StopIteration` with its result."""
    if LOOP_IS_CHECKED:
        future = call_in(loop, lambda: context.run(coroutine.send, None))
    else:
        future = context.run(coroutine.send, None)
    future._asyncio_future_blocking = False  # as whoever awaits one has to say
    return future


def call_when_done(future: Any, callback: Callable[[], None]) -> None:
    """Call somebody when a future is done: at once, if it can."""
    if isinstance(future, PromptFuture):
        future.on_done = callback
    else:
        future.add_done_callback(lambda _: callback())
