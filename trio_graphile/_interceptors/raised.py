"""Exceptions that users' functions raise: which ones are failures, and which ones must be raised again."""

from __future__ import annotations

import math

import trio

from trio_graphile._model.groups import leaves


def split_raised(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split an exception into the failure, and the part that must be raised again; either may be None.

    Trio's cancellation and `KeyboardInterrupt` must be raised again. Everything else is a failure: also
    `SystemExit`, asyncio's cancellation, and a `trio.Cancelled` that a function raises though no scope around
    it is cancelled.
    """
    raised_again = [leaf for leaf in leaves(error) if _must_be_raised(leaf)]
    failures = [leaf for leaf in leaves(error) if not _must_be_raised(leaf)]
    if not raised_again:
        return error, None
    if not failures:
        return None, error
    # A group's own method `split` is not used: a user's subclass may have overridden it.
    return BaseExceptionGroup("beside others", failures), BaseExceptionGroup("beside others", raised_again)


def own_failure(error: BaseException) -> BaseException:
    """Return the failure in an exception. Raises the part that must be raised again, if there is one."""
    failure, raised_again = split_raised(error)
    if failure is None or raised_again is not None:
        raise raised_again or error from None
    return failure


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is a `trio.Cancelled`, or a group of nothing else."""
    return all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))


def _must_be_raised(error: BaseException) -> bool:
    match error:
        case KeyboardInterrupt():
            return True
        case trio.Cancelled():
            return trio.current_effective_deadline() == -math.inf
        case GeneratorExit():  # outside of Trio tasks: Trio has crashed, and its coroutines are collected
            return not trio.lowlevel.in_trio_task()
        case _:
            return False
