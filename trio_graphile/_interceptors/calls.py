"""Calls of single hooks. The exceptions that hooks raise end here: as a value, or in the log.

An exception becomes an `outcome.Error`. An answer stays bare: to wrap it in an `outcome.Value` takes longer
than to call a hook that does nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import trio
from outcome import Error

from trio_graphile._interceptors.raised import own_failure
from trio_graphile.hooks._questions import Addition, JobRun
from trio_graphile.hooks._registry import Hook

logger = logging.getLogger("trio_graphile.hooks")


def begin(hook: Hook, argument: object) -> Any:
    """Call a hook. Return its answer, its awaitable for `finish` if it is async, or the `Error` it raised.

    Raises Trio's cancellation and `KeyboardInterrupt`; everything else that a hook raises is an `Error`.
    """
    try:
        return _begin(hook, argument)
    except BaseException as error:  # noqa: BLE001, ASYNC103  # a hook may raise anything
        return Error(own_failure(error))  # noqa: ASYNC104  # `own_failure` raises a cancellation


async def finish(answer: Awaitable[Any]) -> Any:
    """Wait for an async hook. Return its answer, or the `Error` it raised. Raises what `begin` raises."""
    try:
        return await _finish(answer)
    except BaseException as error:  # noqa: BLE001, ASYNC103  # a hook may raise anything
        return Error(own_failure(error))  # noqa: ASYNC104  # `own_failure` raises a cancellation


async def ask(hook: Hook, question: object) -> Any:
    """Call an interceptor, async or not. Return its answer, or the `Error` it raised. Raises as `begin`."""
    answer = begin(hook, question)
    return await finish(answer) if inspect.isawaitable(answer) else answer


@trio.lowlevel.disable_ki_protection
def _begin(hook: Hook, argument: object) -> Any:
    return hook.function(argument)


@trio.lowlevel.disable_ki_protection
async def _finish(answer: Awaitable[Any]) -> Any:
    return await answer


def wrong_answer(hook: Hook, answer: object, expected: str) -> str:
    """Return the error text for an answer of a type that the question does not allow."""
    return f"TypeError: {hook} answered with {type(answer).__qualname__}; expected {expected}"


@contextmanager
def around(chain: Sequence[Hook], about: JobRun | Addition) -> Iterator[None]:
    """Run the body inside the context managers that the hooks return, the first hook's outermost.

    They cannot change what the body raises. An exception of their own is logged.
    """
    entered: list[tuple[Hook, AbstractContextManager[object]]] = []
    error: BaseException | None = None
    try:
        for hook in chain:
            context = _enter(hook, about)
            if context is not None:
                entered.append((hook, context))
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        for hook, context in reversed(entered):
            _leave(hook, context, error)


def _enter(hook: Hook, about: JobRun | Addition) -> AbstractContextManager[object] | None:
    try:
        context: AbstractContextManager[object] = hook.function(about)
        context.__enter__()
    except BaseException as raised:  # noqa: ASYNC103  # a hook may raise anything
        logger.exception("%s raised on entry", hook, exc_info=own_failure(raised))
        return None  # noqa: ASYNC104  # `own_failure` raises a cancellation
    return context


def _leave(hook: Hook, context: AbstractContextManager[object], error: BaseException | None) -> None:
    try:
        if error is None:
            context.__exit__(None, None, None)
        else:
            context.__exit__(type(error), error, error.__traceback__)
    except BaseException as raised:  # noqa: ASYNC103  # `around` raises the body's own error again
        if raised is not error:
            logger.exception("%s raised on exit", hook, exc_info=own_failure(raised))
